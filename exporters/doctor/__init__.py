"""Find out which execution providers work on this machine, and why the others do not."""
