"""What becomes of a retrieved list before it is answered: other scores, variety, exploration."""
