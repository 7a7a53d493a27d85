"""The columns of a schema: read from tables, fitted on training events, as files and records hold them."""
