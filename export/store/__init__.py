"""What lies in a bundle is checked before anything is done with it: files, descriptions, foreign formats."""
