"""What of a log is kept, trained on and measured on: filters, protocols, and sequences split by them."""
