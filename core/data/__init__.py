"""Reading, checking, splitting and loading images."""
