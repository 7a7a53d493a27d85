"""Whether a script can write where a flag says, asked before the work that takes long."""

import os
from pathlib import Path


def check_place(place: str | Path, flag: str, bad_input: type[Exception], *, is_filled: bool = False) -> None:
    """Raises `bad_input` where an output cannot be written; what is missing of its directories comes later.

    `is_filled`: things are made in the place one by one; otherwise all is made beside it and renamed.
    """
    directory = Path(place).absolute()
    above = directory.parents if not is_filled else (directory, *directory.parents)
    # Unlike those of Path, these two do not raise where a directory may not even be looked into.
    there = next(one for one in above if os.path.exists(one))  # noqa: PTH110
    if not os.path.isdir(there):  # noqa: PTH112
        raise bad_input(f"{flag}={place} cannot be made, since {there} is a file. Choose another {flag}.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise bad_input(
            f"{flag}={place} cannot be written: the permissions of {there}, or a read-only mount, do not"
            f" allow it. Choose another {flag}, or change that."
        )
