"""What searches the vectors of an index: one small interface, which ScaNN, NumPy and hnswlib have.

An engine finds slots, places among the stored vectors. Which row a slot is, what was added or withdrawn
since, users with several vectors, seen items and filters are not its affair.
Shape legend: B queries, S slots, d embedding size, k results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from export.store.bundle_errors import BundleError
from export.store.foreign import loading

VECTORS = "vectors.npy"
_SCANN_VECTORS = "dataset.npy"


class Engine(Protocol):
    """Finds the slots with the largest inner products; several threads may ask at once."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query.

        Args:
          queries: float32 [B, d], finite, B at least 1.
          k: from 1 to S.

        Returns:
          slots int64 [B, k], none twice in a row, and their inner products float32 [B, k], best first. Where
          fewer than k were found, -1 and -inf at the end.
        """


@dataclass(frozen=True)
class StoredIndex:
    """A saved index whose files were checked: what an engine is opened from.

    Attributes:
      directory: of the index.
      description: the content of `index.json`.
    """

    directory: Path
    description: dict[str, Any]

    @cached_property
    def vectors(self) -> np.ndarray:
        """The exact vectors of the slots, float32 [S, d], mapped from their file and not read yet.

        With memory "full" they are ScaNN's own file, a plain array; otherwise, and with parts, they lie
        beside it.

        Raises:
          BundleError: they are missing or of another shape.
        """
        path = self.directory / (VECTORS if keeps_vectors(self.description) else _SCANN_VECTORS)
        with loading(path):
            # A plain array over the mapped file: every view of a memmap goes through its subclass.
            vectors = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        dimension = self.description["dimension"]
        if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != dimension:
            raise BundleError(f"{path} holds {vectors.dtype} {list(vectors.shape)}; publish again.")
        return vectors


def keeps_vectors(description: dict[str, Any]) -> bool:
    """Whether the exact vectors lie in a file of their own: ScaNN's holds rounded ones, or parts of them."""
    return description["memory"] != "full" or description.get("parts", 1) > 1


OpenEngine = Callable[[StoredIndex], Engine]
