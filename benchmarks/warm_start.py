"""What a warm start is worth: runs that go on from yesterday's, beside runs from nothing.

python benchmarks/warm_start.py --flagfile=configs/ml100k_base.flags --yesterday=time
python benchmarks/warm_start.py --flagfile=configs/ml100k_base.flags --yesterday=launch

The dataset is today's. Yesterday's is cut from it: `time` has the first four fifths of the time, `launch` all
but a random tenth of the items, which then are new today. docs/warm_start.md has the figures and says what
they mean.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf import flagfiles  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from pipelines.command_line import command, settings_flags  # noqa: E402

FLAGS = flags.FLAGS

flagfiles.define(FLAGS)
flags.DEFINE_enum("yesterday", "time", ["time", "launch"], "What yesterday's dataset lacks.")
flags.DEFINE_integer("seeds", 3, "How many seeds, from 0.", lower_bound=1)
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")

SHARE_OF_TIME = 0.8
SHARE_LAUNCHED = 0.1
KEY = "recall@50"


def main() -> None:
    """Measures seed by seed, prints, stores."""
    settings = dataclasses.replace(settings_flags.read(FLAGS), patience=1000)
    from causerec_tf.data.sequences import open_dataset

    today = open_dataset(settings.dataset)
    rows = []
    with tempfile.TemporaryDirectory(prefix="warm_start-") as directory:
        yesterday = _yesterday(today, Path(directory) / "yesterday")
        for seed in range(FLAGS.seeds):
            place = Path(directory) / str(seed)
            for row in _measure(dataclasses.replace(settings, seed=seed), yesterday, today, place):
                rows.append({"seed": seed, **row})
                print(json.dumps(rows[-1]), flush=True)
    means = _means(rows)
    for name, figures in means.items():
        print(f"{name:28}" + "".join(f" {key} {value:.4f} " for key, value in figures.items()))
    output = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"warm_start_{FLAGS.yesterday}.json"
    result = {"benchmark": "warm_start", "yesterday": FLAGS.yesterday, "means": means, "rows": rows}
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"stored {path}")


def _yesterday(today, directory: Path):
    """Cuts yesterday's dataset from today's; users stay in their splits, since these go by their ids."""
    from causerec_tf.data.splits import split_sequences
    from causerec_tf.data.splits.user_split import SPLITS
    from causerec_tf.data.writing import sequence_writer

    frames = []
    item_ids = np.array(today.item_ids(), dtype=object)
    for split in SPLITS:
        sequences = today.read(split)
        users = np.repeat(sequences.user_ids, np.diff(sequences.row_splits))
        frame = {"user": users, "item": item_ids[sequences.items - 1], "time": sequences.timestamps}
        frames.append(pl.DataFrame(frame, schema={"user": pl.String, "item": pl.String, "time": pl.Int64}))
    events = pl.concat(frames)
    if FLAGS.yesterday == "time":
        before = events["time"] <= np.quantile(events["time"].to_numpy(), SHARE_OF_TIME)
    else:
        launched = np.random.default_rng(0).permutation(item_ids)[: int(SHARE_LAUNCHED * len(item_ids))]
        before = ~events["item"].is_in(launched.tolist())
    split_seed = today.info["split_seed"]
    sequences = split_sequences.build_sequences(events.filter(before), split_seed=split_seed, num_shards=2)
    about = {"time_unit": today.info["time_unit"], "split_seed": split_seed}
    return sequence_writer.write_dataset(sequences, directory, num_shards=2, about=about)


def _measure(settings, yesterday, today, place: Path) -> Iterator[dict]:
    """The figures of one seed, one row for each way to come to a model of today."""
    from causerec_tf import files, records, warm_start

    source = _train(settings, yesterday, place / "yesterday", None)
    # What marks the source as finished.
    record = records.run_record(*source[1:], None, command="")
    files.write_json(place / "yesterday" / "metrics.json", record)
    asked = dataclasses.replace(settings, warm_start=str(place / "yesterday"))
    placed = warm_start.read(asked, today)
    is_new = ~placed.is_kept
    at_random = dataclasses.replace(placed, is_placed=np.zeros_like(placed.is_placed))
    for name, start in (("at random", at_random), ("placed by histories", placed)):
        model = _model(settings, today)
        start.put_into(model)
        yield {"run": f"warm, new {name}", "epochs": 0, **_figures(model, settings, today, is_new)}
        one = dataclasses.replace(asked, epochs=1)
        model, *_ = _train(one, today, place / name.replace(" ", "_"), start)
        yield {"run": f"warm, new {name}", "epochs": 1, **_figures(model, settings, today, is_new)}
    for epochs in (1, settings.epochs):
        model, *_ = _train(
            dataclasses.replace(settings, epochs=epochs), today, place / f"cold_{epochs}", None
        )
        yield {"run": "from nothing", "epochs": epochs, **_figures(model, settings, today, is_new)}


def _model(settings, dataset):
    from causerec_tf.training import compiled_model

    return compiled_model(settings, dataset.num_items)


def _train(settings, dataset, place: Path, start):
    """Trains a run in `place`: its model, settings, dataset and progress."""
    from causerec_tf import runs, training

    settings = dataclasses.replace(settings, run=str(place), dataset=str(dataset.directory))
    run = runs.RunDirectory(place)
    run.start(settings, dataset)
    model, progress = training.train(settings, dataset, run, warm_start=start)
    return model, settings, dataset, progress


def _figures(model, settings, dataset, is_new: np.ndarray) -> dict[str, float]:
    """Recall of validation and test users, and the share of their new targets that is found."""
    from causerec_tf import evaluation
    from causerec_tf.data.holdout import evaluation_users

    figures = {}
    for split in ("validation", "test"):
        users = evaluation_users(dataset.read(split), settings.max_history)
        ranked = evaluation.rank_users(model, users, 50, exclude_seen=False)
        figures[f"{split} {KEY}"] = float(evaluation.per_user(ranked, users)[KEY].mean())
        found = [
            target in set(ranked[user])
            for user in range(len(users))
            for target in users.targets[user]
            if is_new[target]
        ]
        figures[f"{split} new found"] = float(np.mean(found)) if found else 0.0
        figures[f"{split} new"] = len(found)
    return figures


def _means(rows: list[dict]) -> dict[str, dict[str, float]]:
    means: dict[str, dict[str, float]] = {}
    for row in rows:
        means.setdefault(f"{row['run']}, {row['epochs']} epochs", {})
    for name in means:
        same = [row for row in rows if f"{row['run']}, {row['epochs']} epochs" == name]
        for key in same[0]:
            if key not in ("seed", "run", "epochs"):
                means[name][key] = float(np.mean([row[key] for row in same]))
    return means


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
