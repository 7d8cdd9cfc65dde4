"""Compare a candidate with a reference: the engine behind every check of an exported file."""
