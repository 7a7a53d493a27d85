"""What leaves the training house: the user tower, the item index, and what reads them."""
