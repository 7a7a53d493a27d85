"""Ids that are legal but look marred: counted, shown, and kept as they are. No TensorFlow here."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

# What programs write for a missing value, in small letters.
_MISSING = ["", "\\n", "null", "(null)", "nan", "none", "nil", "na", "n/a", "#n/a", "<na>", "undefined"]
_BLANK = r"[\s\x{feff}\x{200b}]+"
_MEANING = {
    "missing": "like a missing value",
    "spelling": "like another but for blanks or '.0'",
    "scientific": "like a number that a spreadsheet has cut",
}


@dataclass(frozen=True)
class Suspicion:
    """How many ids of a role are suspicious for a reason, a key of `_MEANING`, and how many rows have them.

    The example is the first of them in the order of bytes; where it is like another, also the first of those.
    """

    role: str
    reason: str
    ids: int
    rows: int
    example: list[str]


def count_ids(events: pl.DataFrame, role: str) -> pl.DataFrame:
    """The different ids of a role: `id`, `rows` (how many it has) and `bare` (without what may be a slip)."""
    bare = (
        pl.col("id")
        .str.replace_all(f"^{_BLANK}|{_BLANK}$", "")
        .str.replace(r"^([+-]?[0-9]+)\.0+$", "${1}")
        .alias("bare")
    )
    counts = events.group_by(pl.col(role).alias("id")).agg(pl.len().cast(pl.Int64).alias("rows"))
    return counts.with_columns(bare)


def find_suspicions(counts: pl.DataFrame, role: str) -> list[Suspicion]:
    """Looks through what `count_ids` gave: of ids with one bare form, all or none."""
    is_suspicious = {
        "missing": pl.col("bare").str.to_lowercase().is_in(_MISSING),
        "spelling": (pl.col("bare") != pl.col("id")) & pl.col("bare").is_duplicated(),
        "scientific": pl.col("bare").str.contains(r"^[+-]?\d+(?:\.\d*)?[eE]\+\d+$"),
    }
    found = []
    for reason, mask in is_suspicious.items():
        ids = counts.filter(mask).sort("id")
        if not len(ids):
            continue
        example, _, bare = ids.row(0)
        alike = counts.filter((pl.col("bare") == bare) & (pl.col("id") != example))["id"].sort()
        others = alike[:1].to_list() if reason == "spelling" else []
        found.append(Suspicion(role, reason, len(ids), int(ids["rows"].sum()), [example, *others]))
    return found


def suspicions_of(events: pl.DataFrame) -> list[Suspicion]:
    """Looks the ids of a log through: columns `user` and `item`."""
    found = []
    for role in ("user", "item"):
        distinct = events.select(pl.col(role).unique())  # several times as fast as counting their rows
        if find_suspicions(count_ids(distinct, role), role):
            found += find_suspicions(count_ids(events, role), role)
    return found


def add_up(parts: Iterable[Suspicion]) -> list[Suspicion]:
    """The suspicions of all together, of different ids each, in the order of `suspicions_of`."""
    together: dict[tuple[str, str], list[Suspicion]] = {}
    for part in parts:
        together.setdefault((part.role, part.reason), []).append(part)
    return [
        Suspicion(
            role,
            reason,
            sum(part.ids for part in same),
            sum(part.rows for part in same),
            min(part.example for part in same),
        )
        for role in ("user", "item")
        for reason in _MEANING
        if (same := together.get((role, reason)))
    ]


def as_recorded(found: Iterable[Suspicion]) -> dict[str, Any]:
    """What `dataset.json` says of them in its `source`: nothing where there are none."""
    recorded = [asdict(one) for one in found]
    return {"suspicious_ids": recorded} if recorded else {}


def describe(one: Suspicion) -> str:
    """A line for people to read."""
    ids = "1 {} id looks" if one.ids == 1 else f"{one.ids:,} {{}} ids look"
    rows = "1 row" if one.rows == 1 else f"{one.rows:,} rows"
    example = " beside ".join(map(repr, one.example))
    return f"{ids.format(one.role)} {_MEANING[one.reason]}, such as {example} ({rows}). Kept as written."
