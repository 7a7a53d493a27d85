"""Encoders: the item tower, and one file for each user tower."""
