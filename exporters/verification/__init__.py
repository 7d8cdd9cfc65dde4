"""Compare an exported file with PyTorch, or with what its certificate states."""
