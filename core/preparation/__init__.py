"""What ``fit`` does before training: settings, datasets, the network, the model to continue with."""
