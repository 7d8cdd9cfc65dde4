"""The training loop and what it is made of: batches, freezing, optimizers, checkpoints, callbacks."""
