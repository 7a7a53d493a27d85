"""From a raw log to training batches."""
