"""What a model tells about its training images, and models without some of them."""
