"""Names become objects: what plugins provide, datasets that readers claim, exported files by suffix."""
