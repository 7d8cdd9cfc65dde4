"""Transfer losses in a run: their pass over the training set, their steps, adapting the network."""
