"""Loaders of public datasets in their published formats: each gives a `Log`, as a log of one's own does."""
