"""Parts of tasks that predict something for every pixel: decoders, and regions for augmentation."""
