"""The centre: a vector that each worker meets alone (EASGD, ASGD)."""
