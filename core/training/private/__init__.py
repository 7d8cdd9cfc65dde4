"""Differentially private training steps: per-image gradients, clipping, noise and accounting."""
