"""How a version gets into a bundle, how its index is changed, and how the one before comes back."""
