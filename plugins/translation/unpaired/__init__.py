"""Translation without pairs: images of one kind become images of another (CycleGAN)."""
