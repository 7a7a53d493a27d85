"""Encoders: the stored values of a column -> vectors."""
