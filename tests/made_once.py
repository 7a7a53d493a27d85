"""What several workers of one test run look at is made by the first that wants it."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any


def made_once(tmp_path_factory, name: str, make: Callable[[Path], Any]) -> Any:
    """Makes something for all workers, or waits for the one that makes it.

    Args:
      tmp_path_factory: of pytest.
      name: no other maker's.
      make: called with an empty directory to work in; what it returns is pickled for the others. If it fails,
        the next worker tries again.

    Returns:
      What `make` returned, wherever it was called. All look at the same files: copy what you change.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    kept = root / f"{name}.pickle"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make(tmp_path_factory.mktemp(name))))
    return pickle.loads(kept.read_bytes())
