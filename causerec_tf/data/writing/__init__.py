"""Sequences -> a dataset on disk, with its counts."""
