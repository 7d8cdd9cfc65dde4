"""What a run measures, and on which samples: metrics, their margins of error, metrics without labels."""
