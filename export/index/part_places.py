"""Where the parts of an index lie, and which slots are in which.

Slot s is place s // P of part s % P. So every part is a like sample of the catalogue, popular items and rare
ones, and the same settings suit all of them.
"""

from pathlib import Path


def part_directory(directory: Path, part: int) -> Path:
    """Where the files of a part lie, below the directory of the index."""
    return directory / f"part-{part:03}"


def part_sizes(num_slots: int, num_parts: int) -> list[int]:
    """How many slots each part has: alike, but for one."""
    return [len(range(part, num_slots, num_parts)) for part in range(num_parts)]
