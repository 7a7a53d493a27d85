"""What the scripts share: how they start and end, their flags, their progress, what they print."""
