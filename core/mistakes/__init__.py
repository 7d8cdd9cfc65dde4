"""Likely wrong labels and near-duplicates of a dataset, by features of a pretrained backbone."""
