"""Other people's loaders: what they raise over a damaged file is damage of the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.store.bundle_errors import BundleError


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Turns whatever a foreign loader raises into the error of a damaged bundle; keep the block narrow.

    TensorFlow, ScaNN, protobuf and NumPy may raise anything over a flipped bit, AttributeError for one.
    """
    try:
        yield
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(
            f"{path} cannot be loaded ({type(error).__name__}: {error!s:.500}); publish again."
        ) from error
