"""Segmentation datasets on disk: folders of images and masks, and files that name the classes."""
