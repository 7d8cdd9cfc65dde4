"""Choosing settings by measuring before a run: learning rates, batch size, number of epochs."""
