"""What scripts print of a result record."""

import shlex
import sys

_COLUMNS = ("recall@20", "recall@50", "ndcg@20", "ndcg@50", "hr@20", "hr@50")


def print_record(record: dict) -> None:
    """A table of the model, beside POP where that was measured."""
    split = "test" if "test" in record else "validation"
    policy = "left out" if record["protocol"]["exclude_seen"] else "kept"
    print(f"\n{split} users, whole catalogue, seen items {policy}")
    rows = {record["system"]: record[split]}
    if "pop" in record:
        rows["pop"] = record["pop"]
    width = max(16, *(len(name) for name in rows))
    print(f"{'':{width}}" + "".join(f"{column:>11}" for column in _COLUMNS))
    for name, figures in rows.items():
        print(f"{name:{width}}" + "".join(f"{figures[column]:11.4f}" for column in _COLUMNS))


def mean_and_error(measured: dict, decimals: int = 4, *, sign: str = "") -> str:
    """`.1234 ± .0056` of what `comparison.mean_and_standard_error` gives; words where it gives nothing."""
    if measured["mean"] is None:
        return "no user"
    error = measured["standard_error"]
    spread = " (one user)" if error is None else f" ± {error:.{decimals}f}"
    return f"{measured['mean']:{sign}.{decimals}f}{spread}"


def this_command() -> str:
    """The command that runs this script, to be written into a record."""
    return shlex.join(["python", *sys.argv])
