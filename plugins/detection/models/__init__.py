"""Detection heads: layers, losses and decoding."""
