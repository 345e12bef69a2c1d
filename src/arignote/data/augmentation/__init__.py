"""How training images are changed at random: a file for each step of `train.augment`."""
