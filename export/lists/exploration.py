"""Exploration: a stated share of a list is drawn at random from items that are seldom or never shown.

The draw is decided by a seed, so that the same request gets the same list, and what a list showed can be
found again. Every item of the pool that a request may be answered with has the same chance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.index.catalogue import Catalogue
from export.store.bundle_errors import BundleError

POOLS = ("tail", "new")
# The tail is what comes after this share of the tower's items, the most popular first.
TAIL_AFTER = 0.3
# Some of what is drawn is seen, out of stock or filtered out.
_DRAWN_FOR_ONE, _DRAWN_MORE = 4, 16


@dataclass(frozen=True)
class Exploration:
    """How much of each list is drawn, and from which items.

    Attributes:
      share: of the places of a list, 0 to 1; a part of a place is drawn for, too.
      pool: "tail", the items after the most popular `TAIL_AFTER` of the tower's, or "new", what was added to
        the index later.

    Raises:
      BundleError: a value is out of bounds.
    """

    share: float = 0.0
    pool: str = POOLS[0]

    def __post_init__(self):
        """Checks the bounds."""
        if not 0 <= self.share <= 1:
            raise BundleError(f"explore is {self.share}; wanted a share from 0 to 1.")
        if self.pool not in POOLS:
            raise BundleError(f"explore_from is {self.pool!r}; wanted one of {', '.join(POOLS)}.")

    def rows(self, catalogue: Catalogue) -> range:
        """The pool: rows of a catalogue, withdrawn ones among them."""
        known = catalogue.vocabulary_size
        if self.pool == "new":
            return range(known, catalogue.num_rows)
        return range(int(np.ceil(TAIL_AFTER * known)), known)

    def draw(self, catalogue: Catalogue, k: int, seed: int) -> tuple[int, list[str], np.random.Generator]:
        """Draws for a list of k places.

        Returns:
          How many places; more item ids than that, of which the first that may be answered take them; and the
          generator, which then chooses the places.
        """
        random = np.random.default_rng(seed)
        count = int(np.floor(self.share * k + random.random()))
        pool = self.rows(catalogue)
        size = min(len(pool), _DRAWN_FOR_ONE * count + _DRAWN_MORE) if count else 0
        places = random.choice(len(pool), size, replace=False) if size else np.zeros(0, np.int64)
        return min(count, k), catalogue.ids(pool.start + places), random


def seed_of(history: Sequence[str]) -> int:
    """The seed of a request that names none: its history's."""
    digest = hashlib.blake2b("\n".join(history).encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def mixed_in(items: Sequence[str], drawn: Sequence[str], k: int, random: np.random.Generator) -> list[str]:
    """A list of at most k: what was drawn at places that are drawn, the others in their order around it."""
    kept = [item for item in items if item not in drawn][: k - len(drawn)]
    mixed = list(kept)
    for place, item in zip(
        np.sort(random.choice(len(kept) + len(drawn), len(drawn), replace=False)), drawn, strict=True
    ):
        mixed.insert(int(place), item)
    return mixed
