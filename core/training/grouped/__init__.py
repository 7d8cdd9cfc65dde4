"""Training for groups: every group counts alike, or those with the highest loss count most."""
