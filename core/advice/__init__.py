"""Advice before training: what features of candidate backbones tell about a dataset."""
