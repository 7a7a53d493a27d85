"""How well similar items agree with what held-out users take one after the other, beside ItemKNN.

python pipelines/prepare.py --input=beauty/log.tsv.gz --user_column=user --item_column=item \
  --time_column=timestamp --output=datasets/beauty
python pipelines/train.py --recipe=recommended --method=base --epochs=4 --dataset=datasets/beauty \
  --run=runs/cosine
python pipelines/train.py --recipe=recommended --method=base --epochs=4 --similarity=dot --temperature=1 \
  --dataset=datasets/beauty --run=runs/dot
python benchmarks/similar_items.py --runs=runs/cosine,runs/dot

A pair is two different items that a held-out user, on whom nothing was trained, took one after the other,
in either order; each counts once a user. A list of k similar items hits it if the list of the first has the
second. Rules: the cosine and the inner product of the run's item vectors; ItemKNN, the cosine of items by
the users of training who took both; the most popular items for everybody.
"""

import datetime
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf.errors import InputError  # noqa: E402
from pipelines.command_line import command, trained_runs  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", None, "Directories of runs on one dataset of the protocol `users`.", required=True)
flags.DEFINE_string("dataset", None, "Where the runs' dataset is now, if it was moved.")
flags.DEFINE_list("cutoffs", ["10", "50"], "Lengths of the lists.")
flags.DEFINE_string("output", None, "Directory of the result. None: benchmarks/results.")

_ITEMS_TOGETHER = 512
# Rows int64 [n] -> scores [n, V] of all items.
Rule = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measures the rules on the same pairs, prints the table and stores it."""
    if not all(one.isdecimal() and int(one) for one in FLAGS.cutoffs):
        raise InputError(f"--cutoffs={','.join(FLAGS.cutoffs)}: wanted whole numbers above 0.")
    from benchmarks import machine
    from causerec_tf.data.splits.protocols import USERS
    from causerec_tf.data.training_events import TrainingEvents

    runs = trained_runs.load(FLAGS.runs, FLAGS.dataset)
    dataset = next(iter(runs.values())).dataset
    if dataset.protocol["name"] != USERS:
        raise InputError(f"{dataset.directory} has the protocol {dataset.protocol['name']}; wanted `users`.")
    pairs = held_out_pairs(dataset.read("test").rows())
    rules = _rules_of_training(TrainingEvents(dataset))
    for name, trained in runs.items():
        rules |= {f"{name}_{rule}": one for rule, one in _rules_of(trained.model.item_vectors()).items()}
    cutoffs = sorted(map(int, FLAGS.cutoffs))
    figures = {name: hits(rule, pairs, cutoffs) for name, rule in rules.items()}
    ratios = {
        f"{name}_cosine_over_{other}_at_{k}": figures[f"{name}_cosine"][f"hit@{k}"] / figures[of][f"hit@{k}"]
        for name in runs
        for other, of in (
            ("item_knn", "item_knn"),
            ("inner_product", f"{name}_inner_product"),
            ("pop", "pop"),
        )
        for k in cutoffs
        if figures[of][f"hit@{k}"]
    }
    result = {
        "benchmark": "similar_items",
        "ratios": ratios,
        "figures": figures,
        "pairs": len(pairs),
        "runs": {name: trained.settings.identity() for name, trained in runs.items()},
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "command": shlex.join(["python", "benchmarks/similar_items.py", *sys.argv[1:]]),
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.description(),
    }
    directory = Path(FLAGS.output) if FLAGS.output else ROOT / "benchmarks" / "results"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "similar_items.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{len(pairs):,} pairs of held-out users, {dataset.name}")
    for name, of_rule in figures.items():
        print(f"{name:24}" + "".join(f"  {figure} {value:.4f}" for figure, value in of_rule.items()))
    print(f"stored {path}")


def held_out_pairs(sequences) -> np.ndarray:
    """The pairs of users' sequences of indices from 1, both ways, once a user: rows int64 [P, 2]."""
    pairs = []
    for items in sequences:
        steps = np.stack([items[:-1], items[1:]], axis=1).astype(np.int64) - 1
        steps = steps[steps[:, 0] != steps[:, 1]]
        pairs.append(np.unique(np.concatenate([steps, steps[:, ::-1]]), axis=0))
    return np.concatenate(pairs)


def hits(rule: Rule, pairs: np.ndarray, cutoffs: list[int]) -> dict[str, float]:
    """The share of the pairs that lists of each length hit, and the share of items that the lists have."""
    first, of_pair = np.unique(pairs[:, 0], return_inverse=True)
    best = []
    for start in range(0, len(first), _ITEMS_TOGETHER):
        rows = first[start : start + _ITEMS_TOGETHER]
        scores = np.array(rule(rows), np.float32)
        scores[np.arange(len(rows)), rows] = -np.inf  # the item itself
        best.append(np.argsort(-scores, axis=1, kind="stable")[:, : cutoffs[-1]])
    lists = np.concatenate(best)
    is_hit = lists[of_pair] == pairs[:, 1:]
    figures = {f"hit@{k}": float(is_hit[:, :k].any(axis=1).mean()) for k in cutoffs}
    return figures | {"distinct_items": len(np.unique(lists))}


def _rules_of(vectors: np.ndarray) -> dict[str, Rule]:
    """Of a run's item vectors [V, d]."""
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return {
        "cosine": lambda rows: units[rows] @ units.T,
        "inner_product": lambda rows: vectors[rows] @ vectors.T,
    }


def _rules_of_training(training) -> dict[str, Rule]:
    from causerec_tf.baselines.user_item_matrix import user_item_matrix

    taken_TV = user_item_matrix(training.sequences.rows(), training.num_items).tocsc()
    counts_V = np.asarray(taken_TV.sum(axis=0)).ravel()
    lengths_V = np.sqrt(np.maximum(counts_V, 1))

    def item_knn(rows: np.ndarray) -> np.ndarray:
        both = (taken_TV[:, rows].T @ taken_TV).toarray()
        return both / lengths_V[rows][:, np.newaxis] / lengths_V

    return {
        "item_knn": item_knn,
        "pop": lambda rows: np.broadcast_to(counts_V, (len(rows), len(counts_V))),
    }


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
