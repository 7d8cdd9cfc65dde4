"""Parts of tasks that predict one thing for the whole image: augmentation, embeddings as predictions."""
