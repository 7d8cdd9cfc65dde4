"""Saved models, model cards and weights files; every file is written atomically and nothing is unpickled."""
