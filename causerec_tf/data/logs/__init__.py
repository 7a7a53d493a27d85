"""Logs, and the tables beside them: files and frames -> checked events and their times. No TensorFlow."""
