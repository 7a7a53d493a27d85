"""How an item index is built, with the defaults; nothing is loaded for them, so that flags can read them."""

from dataclasses import dataclass, field

INDEX_METHODS = ("auto", "exact", "tree")
INDEX_MEMORIES = ("full", "bfloat16", "int8")
MOST_PARTS = 999


# Its text is part of a publication's fingerprint: with another name or field, a published model is a new one.
@dataclass(frozen=True)
class IndexOptions:
    """How the index is built.

    Attributes:
      target_recall: that the index must reach against exact search, in (0, 1].
      k: at which recall is measured; a catalogue with fewer items is measured at V, their number.
      method: "exact"; "tree" (partitioned with spilling, hashed, reordered); or "auto": exact below
        20,000 items, and above where the tuned tree is no faster.
      memory: how the vectors lie in memory: "full" (float32), "bfloat16" (half) or "int8" (a quarter). The
        last two round, so that their recall is below one even where everything is searched.
      parts: how many indexes the catalogue is cut into, which are built one by one or side by side and whose
        answers are merged; 0: as few as hold at most a GiB of vectors each.
    """

    target_recall: float = 0.99
    k: int = 50
    method: str = "auto"
    memory: str = "full"
    parts: int = field(default=0, repr=False)  # a fingerprint has it where it is given
