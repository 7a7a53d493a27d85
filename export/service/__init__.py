"""The online path: recommendations over HTTP, from a bundle."""
