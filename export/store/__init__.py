"""The ground floor: how a bundle lies on disk, who may write it, and what is checked before anything is read."""
