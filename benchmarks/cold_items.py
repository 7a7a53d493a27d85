"""Items that nobody has touched yet: how often they are recommended to those who then take them.

python benchmarks/cold_items.py --data=../shared/data --set=max_history=20 --set=batch_size=512 \
       --set=num_sampled=1024 --set=epochs=5 --set=stop_after=5 --set=learning_rate=0.01

Of each of Amazon's Beauty, Sports and Toys a tenth of the items is drawn, one of every ten of neighbouring
popularity. The events of these are taken from training and validation users and stay with the test users. So
they are cold to the model, and as popular with test users as the others, which are seen. On the same lists of
the same model and users both are counted: of the targets that are cold, and of those that are seen, the share
that stands in the user's 50.

Beside the model: the same without dropout of ids, the same without features, and the nearest neighbours by
content, of which the items' columns are all that is known: the cosine of the values of an item with the mean
of the history's. `<dataset>.unseen_over_seen` is the model's recall of cold targets by that of seen ones.
"""

import dataclasses
import datetime
import json
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.cold_item_draw import K, content_lists, draw_cold, rare_half, without_cold  # noqa: E402
from causerec_tf import flagfiles, recipes  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_string("recipe", "recommended", "A recipe by its name, or a flagfile.")
flags.DEFINE_multi_string("set", [], "Other settings than the recipe's, name=value.")
flags.DEFINE_string("data", None, "Where the folders of the datasets are.", required=True)
flags.DEFINE_list("datasets", ["beauty", "sports", "toys"], "Which of them.")
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")
flags.DEFINE_integer("draw", 0, "Of the items that are cold.")
flags.DEFINE_enum("measure_on", "test", ["validation", "test"], "To tune: validation users have cold items.")
flags.DEFINE_list("only", [], "Of the models, some by name; none: all.")

SCHEMA = [{"name": "attributes", "owner": "item", "kind": "multi"}]
MODELS: dict[str, dict] = {
    "features": {},
    "without_id_dropout": {"id_dropout": 0.0},
    "without_features": {"features": "none"},
}


def main() -> None:
    """Measures dataset by dataset, prints, stores."""
    asked = [f"--{one}" for one in FLAGS.set]
    flagfile = f"--flagfile={recipes.flagfile(FLAGS.recipe)}"
    settings = flagfiles.parse(["--dataset=", "--run=", flagfile, "--method=base", *asked])
    ratios, details = {}, {}
    for name in FLAGS.datasets:
        with tempfile.TemporaryDirectory(prefix=f"cold_items-{name}-") as directory:
            figures = _measure(name, settings, Path(directory))
        details[name] = figures
        model = figures["systems"].get("features")
        if model:
            ratios[f"{name}.unseen_over_seen"] = model["unseen"] / model["seen"]
            content = figures["systems"]["content"]["unseen"]
            ratios[f"{name}.unseen_over_content"] = model["unseen"] / content
            if "without_features" in figures["systems"]:
                without = figures["systems"]["without_features"]
                for key in ("recall@50", "ndcg@10", "seen", "seen_rare_half"):
                    ratios[f"{name}.{key}_over_without_features"] = model[key] / without[key]
        print(json.dumps({"ratios": ratios}), flush=True)
    output = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    output.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "cold_items",
        "ratios": ratios,
        "details": details,
        "settings": settings.acting() | {"dataset": "", "run": ""},
        "draw": FLAGS.draw,
        "measured_on": FLAGS.measure_on,
        "command": shlex.join(["python", "benchmarks/cold_items.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
    }
    path = output / "cold_items.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"stored {path}")


def _measure(name: str, settings, directory: Path) -> dict:
    """The figures of a dataset."""
    import causerec_tf as cr
    from causerec_tf import measurement
    from causerec_tf.data.training_events import TrainingEvents

    folder = Path(FLAGS.data) / name
    log = pl.read_csv(folder / "log.tsv.gz", separator="\t", infer_schema=False)
    log.columns = ["user", "item", "time"]
    log = log.with_columns(pl.col("time").cast(pl.Int64))
    items = pl.read_ndjson(folder / "items.jsonl.gz").with_columns(pl.col("item").cast(pl.String))
    counts = log["item"].value_counts(sort=True).sort(["count", "item"], descending=[True, False])
    cold = draw_cold(counts["item"].to_list(), FLAGS.draw)
    dataset = cr.prepare(
        without_cold(log, cold, FLAGS.measure_on),
        directory / name,
        user="user",
        item="item",
        time="time",
        schema=SCHEMA,
        item_table=items,
    )
    users = measurement.users_of(dataset, FLAGS.measure_on, settings.max_history)
    ids = np.array(["", *dataset.item_ids()], dtype=object)
    is_cold = np.isin(ids, sorted(cold))
    rare = rare_half(TrainingEvents(dataset).counts)
    systems = {"content": _of_lists(content_lists(dataset, users), users, is_cold, rare)}
    print(name, "content", json.dumps(systems["content"]), flush=True)
    for model_name, changes in MODELS.items():
        if FLAGS.only and model_name not in FLAGS.only:
            continue
        asked = dataclasses.replace(settings, **changes)
        started = datetime.datetime.now()
        model, epoch = _trained(asked, dataset, directory / model_name)
        systems[model_name] = _of_lists(_lists(model, users), users, is_cold, rare) | {"best_epoch": epoch}
        seconds = (datetime.datetime.now() - started).total_seconds()
        print(name, model_name, json.dumps(systems[model_name]), f"{seconds:.0f} s", flush=True)
    targets = users.targets.items
    return {
        "items": dataset.num_items,
        "cold_items": len(cold),
        "users": len(users),
        "targets": {"unseen": int(is_cold[targets].sum()), "seen": int((~is_cold[targets]).sum())},
        "systems": systems,
    }


def _trained(settings, dataset, place: Path):
    """A model with the towers of its best epoch, and the number of that."""
    from causerec_tf import runs, training

    settings = dataclasses.replace(settings, run=str(place), dataset=str(dataset.directory))
    run = runs.RunDirectory(place)
    run.start(settings, dataset)
    model, progress = training.train(settings, dataset, run)
    return model, progress.best.number


def _lists(model, users) -> np.ndarray:
    from causerec_tf import evaluation

    return evaluation.rank_users(model, users, K, exclude_seen=False)


def _of_lists(lists: np.ndarray, users, is_cold: np.ndarray, is_rare: np.ndarray) -> dict[str, float]:
    """Shares of targets that are found, by kind of target; and the metrics of users with a seen target."""
    from causerec_tf import evaluation

    rows, _ = users.targets.rows_and_positions()
    targets = users.targets.items
    is_found = (lists[rows] == targets[:, np.newaxis]).any(axis=1)
    warm, places = users.only_targets(~is_cold[targets])
    figures = evaluation.figures(lists[places], warm)
    return {
        "unseen": float(is_found[is_cold[targets]].mean()),
        "seen": float(is_found[~is_cold[targets]].mean()),
        "seen_rare_half": float(is_found[is_rare[targets]].mean()),
        "unseen_share_of_lists": float(is_cold[lists].mean()),
        "recall@50": figures["recall@50"],
        "ndcg@10": figures["ndcg@10"],
    }


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
