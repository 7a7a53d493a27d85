"""The user vectors that an index is tuned and measured on, now and after updates."""

from pathlib import Path

import numpy as np

from export.index.description import read_index
from export.store.bundle_errors import BundleError
from export.store.foreign import loading

QUERIES = "queries.npy"


def read_queries(directory: Path) -> np.ndarray | None:
    """Reads the user vectors of an index, [Q, d] or [Q, K, d], or None when it was saved without."""
    path = directory / QUERIES
    if not path.is_file():
        return None
    with loading(path):
        queries = np.array(np.load(path, mmap_mode="r"))
    dimension = read_index(directory)["dimension"]
    if queries.dtype != np.float32 or queries.ndim not in (2, 3) or queries.shape[-1] != dimension:
        raise BundleError(f"{path} holds {queries.dtype} {list(queries.shape)}; publish again.")
    return queries
