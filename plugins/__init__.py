"""Built-in plugins, discovered through the same entry points as third-party plugins."""
