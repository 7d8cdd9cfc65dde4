"""Federated training: sites train on their own images, and only what trains travels."""
