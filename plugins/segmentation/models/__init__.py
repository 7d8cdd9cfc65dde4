"""Segmentation decoders on any backbone's feature maps."""
