"""Which items may be answered: attributes of items, a small language over them, items that are out."""
