"""The segmentation network, and masks at the size of its input."""
