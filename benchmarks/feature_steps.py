"""What features cost a training step: with eight of them and without, and against the size of the catalogue.

python benchmarks/feature_steps.py --rounds=5
python benchmarks/feature_steps.py --rounds=5 --embedding_dim=32    # a smaller table, for less memory

Five columns of items (two categories, tags, the words of a title, a price), one of the user, one of events
and one of the request. The batches are those of benchmarks/growth.py.
"""

import dataclasses
import datetime
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.settings import Settings  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_integer("rounds", 5, "How often each is timed.", lower_bound=1)
flags.DEFINE_integer("steps", 30, "Of a block.", lower_bound=1)
flags.DEFINE_integer("embedding_dim", Settings.embedding_dim, "Size of the vectors.", lower_bound=1)
flags.DEFINE_list("catalogues", ["100000", "1000000", "10000000"], "Items; the ratios are to the first.")
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")

WARM_UP, BATCHES = 12, 32
WORDS, TAGS = 20_000, 2_000
COLUMNS = [
    {"name": "category", "owner": "item", "kind": "categorical"},
    {"name": "brand", "owner": "item", "kind": "categorical"},
    {"name": "tags", "owner": "item", "kind": "multi", "length": 8},
    {"name": "title", "owner": "item", "kind": "text", "size": WORDS, "length": 12},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "country", "owner": "user", "kind": "categorical"},
    {"name": "rating", "owner": "event", "kind": "numeric"},
    {"name": "device", "owner": "request", "kind": "categorical"},
]
VALUES = {"category": 500, "brand": 20_000, "tags": TAGS, "country": 200, "device": 5}


def main() -> None:
    """Measures, prints, stores."""
    command.keep_freed_memory()
    from benchmarks import machine, report, rounds
    from benchmarks.report import Result

    settings = Settings(embedding_dim=FLAGS.embedding_dim)
    sizes = [int(one) for one in FLAGS.catalogues]
    steppers = {}
    for size in sorted(sizes, reverse=True):  # the largest first, while memory is emptiest
        steppers[f"features_{size}"] = _stepper(settings, size, with_features=True)
    steppers["without"] = _stepper(settings, sizes[0], with_features=False)
    blocks = {name: partial(one.run, FLAGS.steps) for name, one in steppers.items()}
    seconds = rounds.interleave(blocks, FLAGS.rounds, say=partial(print, flush=True))
    result = Result("feature_steps", details={"columns": COLUMNS, "values": VALUES, "sizes": sizes})
    first = seconds[f"features_{sizes[0]}"]
    result.ratios["eight_features_over_none"] = rounds.quotients(first, seconds["without"])
    for size in sizes[1:]:
        name = f"step_{size}_over_{sizes[0]}"
        result.ratios[name] = rounds.quotients(seconds[f"features_{size}"], first)
    for name, values in seconds.items():
        result.add(name, "ms per step", [1e3 * one / FLAGS.steps for one in values])
    report.show(result)
    output = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    context = {
        "command": shlex.join(["python", "benchmarks/feature_steps.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "settings": dataclasses.asdict(settings),
        "machine": machine.description(),
    }
    print(f"stored {report.store(result, output, context)}")


def _stepper(settings: Settings, num_items: int, *, with_features: bool):
    from benchmarks import log, stepping
    from causerec_tf.feature_recipes import DatasetFeatures
    from causerec_tf.schema import FittedColumn, schema_of
    from causerec_tf.training import compiled_model

    print(f"warming up {num_items:,} items, {'with' if with_features else 'without'} features", flush=True)
    batches = log.zipf_batches(num_items, settings, BATCHES)
    features = None
    if with_features:
        random = np.random.default_rng(0)
        columns = [
            FittedColumn(one, num_values=VALUES.get(one.name, 0)) for one in schema_of(COLUMNS).columns
        ]
        features = DatasetFeatures(tuple(columns), _item_values(random, num_items + 1))
        batches = [batch | _context(random, settings) for batch in batches]
    model = compiled_model(settings, num_items, features=features)
    return stepping.Stepper(model, log.in_memory(batches, settings.batch_size), warm_up=WARM_UP)


def _item_values(random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Values of so many items; a row has half of the tags and words that it may have, on average."""

    def several(largest: int, length: int) -> np.ndarray:
        # Distinct within a row: each place has numbers of its own.
        places = random.integers(0, largest // length, size=[count, length], dtype=np.int32) * length
        values = 1 + places + np.arange(length, dtype=np.int32)
        lengths = random.integers(0, length + 1, size=[count, 1], dtype=np.int32)
        return np.where(np.arange(length, dtype=np.int32) < lengths, values, 0).astype(np.int32)

    def one(name: str) -> np.ndarray:
        return random.integers(0, VALUES[name] + 2, size=count, dtype=np.int32)

    return {
        "category": one("category"),
        "brand": one("brand"),
        "tags": several(TAGS, 8),
        "title": several(WORDS, 12),
        "price": random.standard_normal(count, np.float32),
    }


def _context(random: np.random.Generator, settings: Settings) -> dict[str, np.ndarray]:
    size, length = settings.batch_size, settings.max_history
    return {
        "user/country": random.integers(0, 202, size=size, dtype=np.int32),
        "request/device": random.integers(0, 7, size=size, dtype=np.int32),
        "event/rating": random.standard_normal([size, length], np.float32),
    }


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
