"""Where a batch job gathers its output before it is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.store.disk import full_disk_named
from export.store.housekeeping import only_one, remove_locked


@contextmanager
def unfinished_beside(output: Path) -> Iterator[Path]:
    """Gives an empty directory beside an output, on the same file system; it goes when the block ends.

    What a killed process left in it is removed by the next one for the same output. Whose work it is, the
    lock tells, and no number of a process: two containers may each have a process 1.

    Raises:
      BundleError: another process is at work on the same output.
    """
    own = output.with_name(f".{output.name}.unfinished")
    lock = own / "lock"
    with only_one(lock, f"at work on {output}"), full_disk_named(output):
        try:
            work = own / "work"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            yield work
        finally:
            remove_locked(own, lock)
