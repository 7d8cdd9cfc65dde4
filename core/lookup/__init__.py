"""Names become objects: what plugins provide, datasets that readers claim, exported files by suffix.

These modules look names up for ``fit``, ``load``, ``export`` and the command line, which pass the
objects on; nothing below them asks the registry.
"""
