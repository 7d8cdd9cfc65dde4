"""Comparing trained models: settings that differ, and metrics on the same images."""
