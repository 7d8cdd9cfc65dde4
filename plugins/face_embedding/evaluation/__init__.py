"""Verification, identification and retrieval metrics of face embeddings."""
