"""Reading, checking, splitting and loading pictures."""
