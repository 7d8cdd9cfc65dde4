"""Classifiers that recognize classes by texts about them."""
