"""Runs the benchmarks: prints tables, stores benchmarks/results/<name>.json and a picture beside each.

python benchmarks/run.py
python benchmarks/run.py --only=training,evaluation --dataset=datasets/yelp2018 --rounds=7
"""

import dataclasses
import datetime
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.settings import Settings  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

NAMES = (
    "training",
    "evaluation",
    "growth",
    "evaluation_growth",
    "compilation",
    "preparation",
    "index",
    "filters",
    "availability",
    "serving",
    "load",
    "hostile_clients",
)
RESULTS = ROOT / "benchmarks" / "results"
GENERATED = ROOT / "datasets" / "benchmark"

_QUICK: dict[str, dict[str, Any]] = {
    "training": {"steps": 2, "warm_up": 1, "batches": 4, "square": 64},
    "evaluation": {"steps": 4},
    "compilation": {"calls": 2},
    "preparation": {"rows": (2_000,)},
    "index": {
        "trained": False,
        "num_items": 2000,
        "width": 8,
        "num_tuning": 200,
        "num_queries": 128,
        "timed": 20,
    },
    "filters": {"num_items": 2000, "width": 8, "shares": (0.5, 0.01), "num_queries": 3},
    "availability": {"items": 200, "dimension": 8, "changes": 80, "windows": 2, "together": 5},
    "serving": {"items": 200, "dimension": 8, "requests": 256},
    "evaluation_growth": {"catalogues": {"100k": 500, "10m": 2000}, "users": (4, 8)},
    "load": {
        "items": 200,
        "dimension": 8,
        "seconds": 0.5,
        "limit_ms": 10_000.0,
        "first_rate": 20.0,
        "most_rate": 40.0,
        "requests": 64,
    },
    "hostile_clients": {"items": 200, "dimension": 8, "seconds": 0.2},
    "growth": {"catalogues": {"100k": 500, "10m": 2000}, "steps": 2, "warm_up": 1, "batches": 2},
}

flags.DEFINE_list("only", list(NAMES), "Which benchmarks: " + ", ".join(NAMES) + ".")
flags.DEFINE_string("dataset", None, "Directory of a dataset. None: a generated one of Yelp2018's size.")
flags.DEFINE_string(
    "bundle", None, "Of `load`: what is served; with --dataset its test users ask. None: a generated one."
)
flags.DEFINE_string(
    "vectors",
    None,
    "Of `index`: what benchmarks/trained_vectors.py made. None: datasets/trained_vectors, trained when it is"
    " missing.",
)
flags.DEFINE_string(
    "earlier", None, "Of `hostile_clients`: a checkout of an earlier state, whose service is measured, too."
)
flags.DEFINE_integer("rounds", 7, "How often each system is timed.", lower_bound=1)
flags.DEFINE_string("output", None, "Directory of the results. None: benchmarks/results.")
flags.DEFINE_list(
    "towers", ["mean"], "User towers that `training` measures; mean always. The others take minutes a round."
)
flags.DEFINE_list("rows", None, "Of `preparation`: rows of its logs. None: half a million to 50 million.")
flags.DEFINE_integer(
    "beam_rows", None, "Of `preparation`: which of its logs, by rows, Beam's DirectRunner prepares as well."
)
flags.DEFINE_bool(
    "quick", False, "Tiny sizes, to see that it all works; the numbers mean nothing and are not kept."
)


def main() -> None:
    """Runs what was asked for, one after another."""
    unknown = [name for name in FLAGS.only if name not in NAMES]
    if unknown or not FLAGS.only:
        raise InputError(f"--only={','.join(FLAGS.only)}: wanted some of {', '.join(NAMES)}.")
    if FLAGS.dataset and not Path(FLAGS.dataset).is_dir():
        raise InputError(f"--dataset={FLAGS.dataset} is not there: prepare it by pipelines/prepare.py.")
    if FLAGS.rows is not None and not all(value.isdecimal() and int(value) > 0 for value in FLAGS.rows):
        raise InputError(f"--rows={','.join(FLAGS.rows)}: wanted whole numbers above 0, between commas.")
    if FLAGS.bundle and not Path(FLAGS.bundle).is_dir():
        raise InputError(f"--bundle={FLAGS.bundle} is not there: publish it by export/bundle.py.")
    # For all systems alike, as pipelines/train.py has it; without it every one of them is slower.
    command.keep_freed_memory()
    # TensorFlow takes seconds to import: a wrong flag should not wait for it.
    import tensorflow as tf

    from benchmarks import machine, report

    # It takes several models in one process for a function that is traced over and over.
    tf.get_logger().setLevel("ERROR")
    about_machine = machine.description()
    _warn_if_busy(about_machine)
    context: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": FLAGS.quick,
        "freed_memory_is_kept": True,
        "machine": about_machine,
    }
    directory = Path(FLAGS.output) if FLAGS.output else RESULTS
    if FLAGS.quick and not FLAGS.output:
        directory = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    for name in FLAGS.only:
        print(f"\n== {name} ==", flush=True)
        result, draw, about_dataset = _measure(name)
        report.show(result)
        path = report.store(result, directory, context | {"dataset": about_dataset})
        draw(result, directory)
        print(f"stored {path} and {path.with_suffix('.png').name}", flush=True)


def _measure(name: str) -> tuple:
    """Runs a benchmark; answers with result, the function of its picture and what the dataset is."""
    from benchmarks import compilation, evaluation, evaluation_growth, growth, log, preparation, training

    if name == "index":
        from benchmarks import index

        scale = index.Scale(**_QUICK[name]) if FLAGS.quick else index.Scale()
        vectors = Path(FLAGS.vectors) if FLAGS.vectors else GENERATED.with_name("trained_vectors")
        return index.measure(scale, vectors, FLAGS.rounds, _say), index.draw, None
    if name == "filters":
        from benchmarks import filters

        with tempfile.TemporaryDirectory() as kept:
            quick = _QUICK[name] | {"kept": Path(kept)}
            filter_scale = filters.Scale(**quick) if FLAGS.quick else filters.Scale()
            return filters.measure(filter_scale, FLAGS.rounds, _say), filters.draw, None
    if name == "availability":
        from benchmarks import availability

        available = availability.Scale(**_QUICK[name]) if FLAGS.quick else availability.Scale()
        return availability.measure(available, FLAGS.rounds, _say), availability.draw, None
    if name == "serving":
        from benchmarks import serving

        scale = serving.Scale(**_QUICK[name]) if FLAGS.quick else serving.Scale()
        return serving.measure(scale, FLAGS.rounds, _say), serving.draw, None
    if name == "load":
        from benchmarks import load

        scale = load.Scale(**_QUICK[name]) if FLAGS.quick else load.Scale()
        bundle = Path(FLAGS.bundle) if FLAGS.bundle else None
        histories = _test_users() if FLAGS.bundle and FLAGS.dataset else None
        return load.measure(scale, FLAGS.rounds, bundle, histories, _say), load.draw, None
    if name == "hostile_clients":
        from benchmarks import hostile_clients

        scale = hostile_clients.Scale(**_QUICK[name]) if FLAGS.quick else hostile_clients.Scale()
        earlier = Path(FLAGS.earlier).absolute() if FLAGS.earlier else None
        return hostile_clients.measure(scale, FLAGS.rounds, earlier, _say), hostile_clients.draw, None
    if name == "compilation":
        result = compilation.measure(_scale(compilation.Scale, **_QUICK[name]), FLAGS.rounds, _say)
        return result, compilation.draw, None

    if name == "preparation":
        # No rounds: the largest log takes minutes.
        preparation_scale = preparation.Scale(**_QUICK[name]) if FLAGS.quick else preparation.Scale()
        if FLAGS.rows:
            preparation_scale = preparation.Scale(rows=tuple(map(int, FLAGS.rows)))
        preparation_scale = dataclasses.replace(preparation_scale, beam_rows=FLAGS.beam_rows)
        return preparation.measure(preparation_scale, _say), preparation.draw, None

    if name == "evaluation_growth":
        evaluation_scale = _scale(evaluation_growth.Scale, **_QUICK[name])
        result = evaluation_growth.measure(evaluation_scale, FLAGS.rounds, _say)
        return result, evaluation_growth.draw, None

    if name == "growth":
        result = growth.measure(_scale(growth.Scale, **_QUICK[name]), FLAGS.rounds, _say)
        return result, growth.draw, None
    dataset = log.open_or_generate(Path(FLAGS.dataset) if FLAGS.dataset else GENERATED, _say)
    about = {"name": dataset.name, "fingerprint": dataset.fingerprint, "counts": dataset.info["counts"]}
    if name == "training":
        scale = _scale(training.Scale, **_QUICK[name])
        scale = dataclasses.replace(scale, towers=tuple(dict.fromkeys(["mean", *FLAGS.towers])))
        result = training.measure(dataset, scale, FLAGS.rounds, _say)
        return result, training.draw, about
    result = evaluation.measure(dataset, _scale(evaluation.Scale, **_QUICK[name]), FLAGS.rounds, _say)
    return result, evaluation.draw, about


def _test_users() -> list[list[str]]:
    """Histories of the dataset's first test users, as ids."""
    from causerec_tf.data.holdout import evaluation_users
    from causerec_tf.data.sequences import open_dataset

    dataset = open_dataset(Path(FLAGS.dataset))
    ids = dataset.item_ids()
    rows = evaluation_users(dataset.read("test"), 100).history[:500]
    return [[ids[index - 1] for index in row[row > 0].tolist()] for row in rows]


def _scale(kind: type, **quick: Any) -> Any:
    """The full scale of a benchmark, or a quick one."""
    if not FLAGS.quick:
        return kind()
    settings = Settings(embedding_dim=8, batch_size=64, num_sampled=64, memory_size=500)
    return kind(settings, **quick)


def _warn_if_busy(about_machine: dict) -> None:
    if about_machine["load_at_start"] > 0.3 * about_machine["cores"]:
        print(
            f"warning: the machine is busy (load {about_machine['load_at_start']} on"
            f" {about_machine['cores']} cores). What is measured now is too slow, and unevenly so.",
            file=sys.stderr,
        )


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError, MemoryError))
