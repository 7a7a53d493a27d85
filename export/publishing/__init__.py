"""How a version gets into a bundle, and out of it: layout, publication, removal."""
