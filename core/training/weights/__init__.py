"""What happens to weights beside the steps of optimizers: EMA, norms, head start, interpolation."""
