"""Face datasets on disk: CelebA, Labeled Faces in the Wild, and one folder per person."""
