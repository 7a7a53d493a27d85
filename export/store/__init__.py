"""The ground floor: how a bundle lies on disk, who may write it, how it is checked."""
