"""Which parts of an image a result depends on, and whether an explanation can be trusted."""
