"""How far two sets of images are from each other, by the features of a pretrained network."""
