"""The engines by name."""

from export.index.engine import Engine, OpenEngine, StoredIndex
from export.store.bundle_errors import BundleError

ENGINES = ("auto", "scann", "numpy", "hnswlib")


def engine_named(name: str) -> OpenEngine:
    """Gives what opens an engine: `auto` is ScaNN where it is installed, and exact search in NumPy elsewhere.

    Raises:
      BundleError: there is no engine of that name.
    """
    if name == "auto":
        return open_best
    if name == "scann":
        return _open_scann
    if name == "numpy":
        from export.index.numpy_engine import NumpyEngine

        return NumpyEngine.open
    if name == "hnswlib":
        from export.index.hnsw_engine import HnswEngine

        return HnswEngine.open
    raise BundleError(f"The engine is {name!r}; it is one of {', '.join(ENGINES)}.")


def open_best(stored: StoredIndex) -> Engine:
    """Opens an index with ScaNN where that is installed, and for exact search in NumPy elsewhere."""
    return engine_named("scann" if _has_scann() else "numpy")(stored)


def _open_scann(stored: StoredIndex) -> Engine:
    from export.index.parted_engine import PartedEngine
    from export.index.scann_engine import ScannEngine

    return (PartedEngine if stored.description.get("parts", 1) > 1 else ScannEngine).open(stored)


def _has_scann() -> bool:
    try:
        from export.index import scann_runtime  # noqa: F401
    except BundleError:
        return False
    return True
