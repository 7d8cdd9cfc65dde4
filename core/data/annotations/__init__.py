"""Files of annotation tools that several tasks read: finding them and their images, and parsing."""
