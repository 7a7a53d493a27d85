"""What a catalogue and a log of any size would need, by what benchmarks/results holds.

    python benchmarks/extrapolation.py --items=100000000 --events=10000000000

prints a table. Nothing is measured here: each row says by which rule it follows from which file.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from causerec_tf.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# Of the log of 50 million rows that benchmarks/preparation.py writes, 1.3 GB.
LOG_BYTES_A_ROW = 26
# By the format: a varint of 5 bytes for the time, one of up to 4 for the item, and the record's frame, its
# features' names and the user's id, some 50 to 100 bytes, over the user's events.
DATASET_BYTES_A_ROW = 10

_FLOAT = 4
# Two subspaces share a byte of ScaNN's codes, each of two dimensions; SOAR stores every item twice.
_CODE_BYTES_A_DIMENSION = 2 * 0.25
# An estimate of TensorFlow's hash table: a string object of 24 bytes, an int64, a link, and empty buckets.
_HASHED_ID_BYTES = 64
_DAY = 86_400.0


def _asked(default: int, meaning: str):
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Scale:
    """What is asked for, by flags of these names."""

    items: int = _asked(100_000_000, "items of the catalogue")
    events: int = _asked(10_000_000_000, "events of the log")
    dimension: int = _asked(64, "size of a vector")
    events_a_user: int = _asked(50, "events of a user, on average")
    workers: int = _asked(100, "Beam's workers")
    evaluation_users: int = _asked(10_000, "users that are ranked after an epoch")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for one in dataclasses.fields(Scale):
        parser.add_argument(f"--{one.name}", type=int, default=one.default, help=one.metadata["help"])
    asked = vars(parser.parse_args())
    for name, value in asked.items():
        if value < 1:
            parser.error(f"--{name}={value}: wanted a whole number above 0.")
    try:
        print(table(Scale(**asked), RESULTS), end="")
    except InputError as error:
        parser.error(str(error))


def table(scale: Scale, results: Path) -> str:
    """The table, in Markdown.

    Args:
      scale: what is asked for.
      results: directory of the files that benchmarks/run.py stored.

    Raises:
      InputError: a file is missing.
    """
    rows = [*_data(scale, results), *_training(scale, results), *_ranking(scale, results)]
    lines = [("part", "needs", "by"), ("---", "---:", "---"), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _data(scale: Scale, results: Path) -> list[tuple[str, str, str]]:
    median = _medians(results, "preparation")
    largest, beam = median("local_50000k_rows"), median("DirectRunner_5000k_rows")
    gib_a_row = (median("local_50000k_memory") - median("local_5000k_memory")) / 45e6
    by = "`preparation.json`: "
    return [
        ("users", f"{_users(scale):,.0f}", f"{scale.events_a_user} events each"),
        ("log, CSV", _size(scale.events * LOG_BYTES_A_ROW), f"{LOG_BYTES_A_ROW} bytes a row"),
        ("dataset", _size(scale.events * DATASET_BYTES_A_ROW), f"{DATASET_BYTES_A_ROW} bytes a row"),
        (
            "preparation, one machine: time",
            _time(scale.events / largest),
            f"{by}{largest:,.0f} rows/s at 50 million",
        ),
        (
            "preparation, one machine: memory",
            _size(scale.events * gib_a_row * 2**30),
            f"{by}{gib_a_row * 2**30:.0f} bytes more a row between 5 and 50 million",
        ),
        (
            f"preparation, {scale.workers} workers of Beam",
            _time(scale.events / beam / scale.workers),
            f"{by}{beam:,.0f} rows/s of one `DirectRunner`, times {scale.workers}",
        ),
    ]


def _training(scale: Scale, results: Path) -> list[tuple[str, str, str]]:
    median, batch = _medians(results, "growth"), _stored(results, "growth")["details"]["scale"]["settings"]
    vectors = (scale.items + 1) * scale.dimension * _FLOAT
    examples = 0.8 * (scale.events - _users(scale))
    rows = [
        ("item table", _size(vectors), f"float32, {scale.dimension} a row"),
        ("item table with both moments", _size(3 * vectors), "what training holds, without copies"),
        ("checkpoints on disk", _size(2 * 3 * vectors + 2 * vectors), "two with moments, two best epochs"),
        ("training examples an epoch", f"{examples:,.0f}", "8 of 10 users train; all events but the first"),
    ]
    for system in ("base", "causerec_item"):
        at_10m = median(f"{system}_10m")
        a_decade = at_10m - median(f"{system}_1m")
        step = at_10m + a_decade * math.log10(scale.items / 10e6)
        rate = 1e3 * batch["batch_size"] / step
        rows += [
            (
                f"`{system}`: examples a second, one machine",
                f"{rate:,.0f}",
                f"`growth.json`: {at_10m:.1f} ms per step at 10 million, {a_decade:+.1f} ms per decade",
            ),
            (f"`{system}`: an epoch, one machine", _time(examples / rate), "examples / examples a second"),
            (
                f"`{system}`: machines for an epoch a day",
                f"{math.ceil(examples / rate / _DAY):,}",
                "as if machines added up",
            ),
        ]
    return rows


def _ranking(scale: Scale, results: Path) -> list[tuple[str, str, str]]:
    evaluation, index = _stored(results, "evaluation"), _stored(results, "index")
    grown = _stored(results, "evaluation_growth")["ratios"]["pair_10m_over_100k"]
    nanoseconds = (
        1e9 / evaluation["measures"]["rank_users"]["median"] / evaluation["details"]["items"] * grown
    )
    a_pair = f"{nanoseconds:.2f} ns a user and item: `evaluation.json`, times {grown:.2f} at 10 million"
    every = 0.1 * _users(scale)
    vectors = scale.items * scale.dimension * _FLOAT
    codes = scale.items * scale.dimension * _CODE_BYTES_A_DIMENSION
    growth = scale.items / index["details"]["scale"]["num_items"]
    query = index["measures"]["ours chosen"]["median"]
    ids = scale.items * _HASHED_ID_BYTES
    return [
        (
            f"evaluation of {scale.evaluation_users:,} users",
            _time(1e-9 * nanoseconds * scale.evaluation_users * scale.items),
            a_pair,
        ),
        (
            f"evaluation of every test user, {every:,.0f}",
            _time(1e-9 * nanoseconds * every * scale.items),
            "the same; 1 of 10 users tests",
        ),
        ("index, float32", _size(vectors + codes), "vectors and codes"),
        ("index, bfloat16", _size(vectors / 2 + codes), "the same"),
        ("index, int8", _size(vectors / 4 + codes), "the same"),
        (
            "a query of the index, one thread",
            f"{_time(1e-3 * query * math.sqrt(growth))} to {_time(1e-3 * query * growth)}",
            f"`index.json`: {query:.2f} ms, times the root of the growth, to times the growth",
        ),
        (
            "batch retrieval for all users, 100 threads",
            f"{_time(1e-5 * query * math.sqrt(growth) * _users(scale))} to"
            f" {_time(1e-5 * query * growth * _users(scale))}",
            "the same for every user",
        ),
        ("user tower, in memory", _size(vectors + ids), f"item table, {_HASHED_ID_BYTES} bytes an id"),
    ]


def _users(scale: Scale) -> float:
    return scale.events / scale.events_a_user


def _stored(results: Path, name: str) -> dict:
    path = results / f"{name}.json"
    if not path.is_file():
        raise InputError(f"{path} is missing: measure it by `python benchmarks/run.py --only={name}`.")
    return json.loads(path.read_text(encoding="utf-8"))


def _medians(results: Path, name: str) -> Callable[[str], float]:
    measures = _stored(results, name)["measures"]

    def median(measure: str) -> float:
        if measure not in measures:
            raise InputError(
                f"{results / name}.json has no {measure}: measure it by `python benchmarks/run.py"
                f" --only={name}` at full size."
            )
        return measures[measure]["median"]

    return median


def _size(count: float) -> str:
    """Bytes, in decimal units."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:,.0f} bytes"


def _time(seconds: float) -> str:
    for unit, size in (("days", _DAY), ("hours", 3600.0), ("minutes", 60.0), ("s", 1.0)):
        if seconds >= (1 if unit == "s" else 2 * size):
            return f"{seconds / size:.1f} {unit}"
    return f"{1e3 * seconds:.1f} ms"


if __name__ == "__main__":
    main()
