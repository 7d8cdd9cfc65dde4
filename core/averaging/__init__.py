"""Averaging the weights of trained models: soups, and WiSE-FT."""
