"""Building an item index, choosing it by measured recall, changing it."""
