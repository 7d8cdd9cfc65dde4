"""Applying adapters to a backbone, and merging them into its weights."""
