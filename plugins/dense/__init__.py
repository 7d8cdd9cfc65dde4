"""Parts of tasks that predict every pixel: decoders, regions for augmentation, made images."""
