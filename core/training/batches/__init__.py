"""Where the batches of a run come from: images, the feature cache, streams."""
