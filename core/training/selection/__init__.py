"""Which epoch and which weights a run keeps, and what came of the choice."""
