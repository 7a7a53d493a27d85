"""Command-line scripts: flags and paths in, library calls, files out."""
