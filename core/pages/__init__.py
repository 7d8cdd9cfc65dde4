"""Pages of HTML in one file: what they consist of, their figures, and how they are written."""
