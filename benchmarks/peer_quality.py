"""Trains our GRU4Rec and SASRec and RecBole's on the same windows and measures them by the same code.

python benchmarks/peer_quality.py --dataset=datasets/beauty --seeds=0,1

Ours are trained by pipelines/train.py. RecBole's model classes get the same batches in the same order, the
same loss (a softmax over the whole catalogue), the same optimiser, and the same rule for the epoch that is
kept. What is finished is not trained again: runs lie under --runs. Speed is timed afterwards, in turn.
docs/parity.md says how to install the peer.
"""

import dataclasses
import datetime
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks import peer_packages  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.settings import Settings  # noqa: E402
from pipelines.command_line import command  # noqa: E402

FLAGS = flags.FLAGS

TOWERS = ("gru4rec", "sasrec")
FIGURES = ("recall@20", "recall@50", "ndcg@50", "hr@50")

flags.DEFINE_string("dataset", None, "Directory made by pipelines/prepare.py.", required=True)
flags.DEFINE_list("seeds", ["0"], "Of initial weights and order of the batches.")
flags.DEFINE_list("towers", list(TOWERS), "Which: " + ", ".join(TOWERS) + ".")
flags.DEFINE_integer("epochs", 20, "Epochs at most.", lower_bound=1)
flags.DEFINE_float("weight_decay", Settings.weight_decay, "L2 in the gradient, of both.", lower_bound=0.0)
flags.DEFINE_integer("rounds", 5, "How often the speed of each is timed.", lower_bound=1)
flags.DEFINE_string("runs", "runs/peer_quality", "Where the runs of both lie.")
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")
flags.DEFINE_bool(
    "peer_defaults",
    False,
    "Also RecBole's with its own dropout, heads and feed-forward width.",
)


def main() -> None:
    """Trains what is not yet trained, prints the table and stores it."""
    unknown = sorted(set(FLAGS.towers) - set(TOWERS))
    if unknown or not FLAGS.towers or not all(seed.isdigit() for seed in FLAGS.seeds):
        raise InputError(
            f"--towers={','.join(FLAGS.towers)} --seeds={','.join(FLAGS.seeds)}: wanted some of"
            f" {', '.join(TOWERS)} and numbers."
        )
    peer_packages.versions()  # a missing one should not be found out after our runs
    command.keep_freed_memory()  # for both alike, as pipelines/train.py has it
    records: dict[str, list[dict]] = {}
    for seed in FLAGS.seeds:
        for tower in FLAGS.towers:
            settings = _settings(tower, int(seed))
            records.setdefault(tower, []).append(_ours(settings))
            for name, is_default in _peers(tower).items():
                records.setdefault(name, []).append(_peer(name, settings, is_default))
    result = _result(records)
    directory = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "peer_quality.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _show(result)
    print(f"stored {path}")


def _settings(tower: str, seed: int) -> Settings:
    """Of our run; the peer takes from them what it has."""
    return Settings(
        dataset=FLAGS.dataset,
        run=str(Path(FLAGS.runs) / f"{tower}-{seed}"),
        tower=tower,
        sampler="full",
        epochs=FLAGS.epochs,
        weight_decay=FLAGS.weight_decay,
        seed=seed,
    )


def _peers(tower: str) -> dict[str, bool]:
    """Names of the peers of a tower, and whether they have the peer's own settings."""
    peers = {f"recbole_{tower}": False}
    return peers | {f"recbole_{tower}_defaults": True} if FLAGS.peer_defaults else peers


def _ours(settings: Settings) -> dict:
    """The record of our run, which pipelines/train.py makes or finds."""
    arguments = [f"--{name}={value}" for name, value in dataclasses.asdict(settings).items()]
    subprocess.run([sys.executable, ROOT / "pipelines" / "train.py", *arguments], check=True)
    return json.loads((Path(settings.run) / "metrics.json").read_text(encoding="utf-8"))


def _peer(name: str, settings: Settings, is_default: bool) -> dict:
    """The record of the peer's run, trained unless a record of the same settings lies there."""
    from benchmarks import peer_training
    from causerec_tf import files

    path = Path(FLAGS.runs) / f"{name}-{settings.seed}.json"
    wanted = dataclasses.asdict(settings) | {"run": str(path)}
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] != wanted:
            raise InputError(f"{path} is of a run with other settings: choose another --runs, or remove it.")
        return found
    print(f"training {path.stem}", flush=True)
    record = peer_training.train(settings, is_default=is_default, say=_say)
    record = {"system": name, "settings": wanted} | record
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, record)
    return record


def _result(records: dict[str, list[dict]]) -> dict:
    """What is stored: means over the seeds, their quotients, and each run."""
    from benchmarks import machine, peer_speed, rounds

    first = next(iter(records.values()))[0]
    means = {
        name: {key: statistics.mean(run["test"][key] for run in of_system) for key in FIGURES}
        | {
            "validation_recall@50": statistics.mean(run["validation"]["recall@50"] for run in of_system),
        }
        for name, of_system in records.items()
    }
    num_users = first["protocol"]["test_users"]
    for of_system in means.values():
        # Of one run: exact, because a user has a hit or has none.
        hit_rate = of_system["hr@50"]
        of_system["hr@50_standard_error"] = (hit_rate * (1 - hit_rate) / num_users) ** 0.5
    ratios: dict[str, float] = {}
    for tower in FLAGS.towers:
        for peer in _peers(tower):
            for key in (*FIGURES, "validation_recall@50"):
                ratios[f"{tower}_over_{peer}_{key}"] = means[tower][key] / means[peer][key]
    speeds = peer_speed.measure(_settings("gru4rec", 0), FLAGS.towers, FLAGS.rounds, _say)
    for tower in FLAGS.towers:
        quotients = rounds.quotients(speeds[tower], speeds[f"recbole_{tower}"])
        ratios[f"{tower}_over_recbole_{tower}_examples_per_second"] = statistics.median(quotients)
    kept = ("seed", "epochs", "best_epoch", "validation", "test", "by_epoch")
    result: dict[str, Any] = {
        "benchmark": "peer_quality",
        "ratios": ratios,
        "means": means,
        "runs": {
            name: [{key: run[key] for key in kept if key in run} for run in of_system]
            for name, of_system in records.items()
        },
        "examples_per_second": {name: rounds.summary(values) for name, values in speeds.items()},
        "pop": first["pop"],
        "dataset": first["dataset"],
        "protocol": first["protocol"],
        "peer_versions": peer_packages.versions(),
        "command": shlex.join(["python", "benchmarks/peer_quality.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
    }
    return result


def _show(result: dict) -> None:
    keys = [*FIGURES, "validation_recall@50"]
    print(f"\n{'means over seeds':28}" + "".join(f"{key:>22}" for key in keys))
    for name, means in result["means"].items():
        print(f"{name:28}" + "".join(f"{means[key]:>22.4f}" for key in keys))
    for name, speed in result["examples_per_second"].items():
        print(f"{name:28}{speed['median']:>22,.0f} examples/s")


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
