"""A generated world of which the answer is known, with or without features."""
