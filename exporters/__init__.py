"""Built-in exporters, found through the same entry points as a third party's."""
