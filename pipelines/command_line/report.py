"""What scripts print of a result record."""

import shlex
import sys

# Metric -> decimals, and whether more of it is better.
_COLUMNS = {
    "recall": (4, True),
    "ndcg": (4, True),
    "hr": (4, True),
    "mrr": (4, True),
    "coverage": (4, False),
    "novelty": (2, False),
    "popularity": (1, False),
}
_WIDTH = 11
_SPLITS = ("targets", "test", "validation")


def print_record(record: dict) -> None:
    """A table for each policy on seen items: the model beside its baselines, at every cut-off."""
    if not any(name in record for name in _SPLITS):
        return  # a run on everything is measured on nobody
    split = _split(record)
    for key in (split, f"{split}_without_seen"):
        if key not in record:
            continue
        figures = {record["system"]: record[key]}
        if key == split and "pop" in record:
            figures["pop"] = record["pop"]
        figures |= {name: of[key] for name, of in record.get("baselines", {}).items() if key in of}
        print("\n" + _title(record, key) + ("; * the best" if len(figures) > 1 else ""))
        _print_figures(figures)


def print_groups(record: dict) -> None:
    """A table for each policy on seen items: Recall at the last cut-off of each group of users or targets."""
    for key, groups in record.get("groups", {}).items():
        systems = [
            record["system"],
            *(name for name in record["baselines"] if key in record["baselines"][name]),
        ]
        metric = f"recall@{max(_cutoffs(record[key]))}"
        print(f"\n{metric} by group, {_title(record, key)}")
        width = max(map(len, groups))
        widths = [max(_WIDTH, len(name) + 2) for name in systems]
        heads = "".join(f"{name:>{size}}" for name, size in zip(systems, widths, strict=True))
        print(f"{'':{width}}{'users':>9}{'targets':>9}{heads}")
        for name, group in groups.items():
            values = [of_system[metric] for of_system in group["figures"].values()]
            cells = "".join(f"{value:{size}.4f}" for value, size in zip(values, widths, strict=True))
            counts = f"{group['users']:9,}{group['targets']:9,}"
            print(f"{name:{width}}{counts}{cells}  {group['meaning']}")


def _print_figures(figures: dict[str, dict[str, float]]) -> None:
    """One line for each system and cut-off, the best value of each marked."""
    first, *_ = figures.values()
    columns = [name for name in _COLUMNS if any(metric.startswith(f"{name}@") for metric in first)]
    width = max(len(name) for name in figures) + 6
    print((" " * width + "".join(f"{name:>{_WIDTH - 1}} " for name in columns)).rstrip())
    for k in _cutoffs(first):
        best = {name: max(one.get(f"{name}@{k}", 0.0) for one in figures.values()) for name in columns}
        for row, (system, one) in enumerate(figures.items()):
            head = f"@{k}" if row == 0 else ""
            cells = ""
            for name in columns:
                decimals, is_score = _COLUMNS[name]
                value = one.get(f"{name}@{k}")
                text = "" if value is None else f"{value:.{decimals}f}"
                is_best = is_score and len(figures) > 1 and value == best[name] > 0
                cells += f"{text:>{_WIDTH - 1}}{'*' if is_best else ' '}"
            print(f"{head:5}{system:{width - 5}}{cells}".rstrip())


def _cutoffs(figures: dict[str, float]) -> list[int]:
    return sorted({int(metric.partition("@")[2]) for metric in figures})


def _split(record: dict) -> str:
    return next(name for name in _SPLITS if name in record)


def _title(record: dict, key: str) -> str:
    """Whose figures, of how many, under which policy."""
    split = _split(record)
    is_left_out = key != split or record["protocol"]["exclude_seen"]
    count = record["protocol"].get(f"{key}_users")
    counted = f"{count:,} " if count is not None else ""
    policy = "left out" if is_left_out else "kept"
    return f"{counted}{split} users, whole catalogue, seen items {policy}"


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
