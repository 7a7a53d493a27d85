"""The peers beside our runs on one dataset: rules, neighbours, EASE, iALS; same users, same candidates.

    python benchmarks/yardstick.py --dataset=datasets/yelp2018 --runs=runs/yelp2018_0,runs/yelp2018_1

Each peer has the small grid of `GRIDS`. Validation users choose from it by Recall@50, for each policy on seen
items apart; the test users are looked at once, with that. Whole histories count. `ratios` in
benchmarks/results/peers.json has the mean of our runs over the best peer.
"""

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf import files  # noqa: E402
from causerec_tf.baselines.als import AlternatingLeastSquares  # noqa: E402
from causerec_tf.baselines.baseline import Baseline  # noqa: E402
from causerec_tf.baselines.ease import Ease  # noqa: E402
from causerec_tf.baselines.item_neighbours import ItemNeighbours  # noqa: E402
from causerec_tf.baselines.own_past import OwnPast  # noqa: E402
from causerec_tf.baselines.popularity import Popular  # noqa: E402
from causerec_tf.baselines.session_neighbours import SessionNeighbours  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from pipelines.command_line import command, report  # noqa: E402

FLAGS = flags.FLAGS

# Peer -> its class, and the values of each argument that are tried.
GRIDS: dict[str, tuple[type[Baseline], dict[str, Sequence[Any]]]] = {
    "pop": (Popular, {}),
    "own_past": (OwnPast, {}),
    "item_knn": (ItemNeighbours, {"half_life": (None, 3.0, 6.0, 12.0)}),
    "vsknn": (SessionNeighbours, {"num_neighbours": (100, 500)}),
    "ease": (Ease, {"l2": (100.0, 300.0, 1000.0)}),
    "ials_64": (AlternatingLeastSquares, {"num_factors": (64,), "alpha": (1.0, 10.0, 40.0)}),
    "ials_256": (AlternatingLeastSquares, {"num_factors": (256,), "alpha": (1.0, 10.0, 40.0)}),
}
POLICIES = {"kept": False, "left_out": True}  # what becomes of seen items -> `exclude_seen`
METRICS = ("recall@50", "ndcg@50")
_CHOOSES = "recall@50"

flags.DEFINE_string("dataset", None, "Directory made by pipelines/prepare.py.", required=True)
flags.DEFINE_list("runs", [], "Finished runs of one recipe here: their mean is laid beside.")
flags.DEFINE_list("peers", list(GRIDS), f"Which peers: {', '.join(GRIDS)}.")
flags.DEFINE_float("most_memory", 8.0, "GiB that the matrix of EASE may take.", lower_bound=0.0)
flags.DEFINE_string("output", None, "The file of the figures. None: benchmarks/results/peers.json.")


def main() -> None:
    """Fits, chooses on validation users, measures on test users, stores."""
    if unknown := [name for name in FLAGS.peers if name not in GRIDS]:
        raise InputError(f"--peers has {unknown[0]!r}: wanted some of {', '.join(GRIDS)}.")
    from causerec_tf import records
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.data.training_events import TrainingEvents

    dataset = open_dataset(FLAGS.dataset)
    ours = _ours(FLAGS.runs, dataset)
    training = TrainingEvents(dataset)
    peers: dict[str, Any] = {}
    for name in FLAGS.peers:
        peers[name] = _measured(name, dataset, training)
        _show(name, peers[name])
    output = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results" / "peers.json"
    stored = files.read_json(output) if output.exists() else {"ratios": {}, "datasets": {}}
    stored["datasets"][dataset.name] = {
        "fingerprint": dataset.fingerprint,
        "protocol": dataset.protocol,
        "peers": peers,
        "ours": ours,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    ratios = {key: value for key, value in stored["ratios"].items() if not key.startswith(f"{dataset.name}.")}
    stored["ratios"] = ratios | ratios_of(dataset.name, ours, peers)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(output, stored)
    print(f"stored {output}")


def ratios_of(name: str, ours: Mapping[str, Any], peers: Mapping[str, Any]) -> dict[str, float]:
    """Ours over the best peer, `<dataset>.<kept|left_out>.<metric>` -> ratio; empty without runs of ours."""
    found = {}
    for policy, metric in itertools.product(POLICIES, METRICS):
        figures = [one[policy]["test"][metric] for one in peers.values() if policy in one]
        if ours.get(policy) and figures:
            found[f"{name}.{policy}.{metric}"] = round(ours[policy][metric] / max(figures), 4)
    return found


def _ours(runs: Sequence[str], dataset) -> dict[str, Any]:
    """Means over runs of what their records say of test users."""
    keys = {"kept": "test", "left_out": "test_without_seen"}
    records = [files.read_json(Path(run) / "metrics.json") for run in runs]
    for run, record in zip(runs, records, strict=True):
        if record["dataset"]["fingerprint"] != dataset.fingerprint:
            raise InputError(f"{run} was trained on another dataset than {dataset.directory}.")
        if "test" not in record:
            raise InputError(f"{run} has no figures of test users: train.py without --notest adds them.")
    if not records:
        return {}
    means: dict[str, Any] = {
        policy: {metric: sum(one[key][metric] for one in records) / len(records) for metric in METRICS}
        for policy, key in keys.items()
        if all(key in one for one in records)
    }
    return {"seeds": [one["seed"] for one in records], "command": records[0]["command"]} | means


def _measured(name: str, dataset, training) -> dict[str, Any]:
    """A peer under each policy: what was chosen, and its figures; why it could not be fitted, if so."""
    kind, grid = GRIDS[name]
    best: dict[str, tuple[float, Baseline, dict[str, Any]]] = {}
    found: dict[str, Any] = {"trials": []}
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        more = {"most_memory": FLAGS.most_memory} if kind is Ease else {}
        model = kind(**settings, **more)
        if reason := model.refusal(training):
            return {"refused": reason}
        started = time.perf_counter()
        model.fit(training)
        trial: dict[str, Any] = settings | {"seconds_to_fit": round(time.perf_counter() - started, 2)}
        for policy in _policies_of(model):
            trial[policy] = _figures(model, dataset, "validation", policy)
            if policy not in best or trial[policy][_CHOOSES] > best[policy][0]:
                best[policy] = trial[policy][_CHOOSES], model, settings
        found["trials"].append(trial)
    for policy, (_, model, settings) in best.items():
        found[policy] = {"chosen": settings, "test": _figures(model, dataset, "test", policy)}
    return found


def _policies_of(model: Baseline) -> list[str]:
    return [name for name, exclude in POLICIES.items() if not (exclude and model.knows_seen_items_only)]


def _figures(model: Baseline, dataset, split: str, policy: str) -> dict[str, float]:
    from causerec_tf import evaluation, measurement
    from causerec_tf.data.training_records import trained_items

    exclude_seen = POLICIES[policy]
    users = measurement.users_of(dataset, split, max_history=1, exclude_seen=exclude_seen)
    [ranked] = evaluation.rank_by_scores(
        model.scores, dataset.num_items, users, 50, [exclude_seen], candidates=trained_items(dataset)
    )
    figures = evaluation.figures(ranked, users, (20, 50))
    return {metric: round(value, 5) for metric, value in figures.items()}


def _show(name: str, found: Mapping[str, Any]) -> None:
    if "refused" in found:
        print(f"{name:10} left out: {found['refused']}", flush=True)
    for policy in POLICIES:
        if policy in found:
            figures = "  ".join(f"{metric} {found[policy]['test'][metric]:.4f}" for metric in METRICS)
            chosen = " ".join(f"{key}={value}" for key, value in found[policy]["chosen"].items())
            print(f"{name:10} seen items {policy:9} {figures}  {chosen}", flush=True)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
