"""What item-to-item models reach under the protocol of our systems: EASE and nearest neighbours of items.

    python benchmarks/yardstick.py --dataset=datasets/yelp2018_tenth --l2=50,200,500

Neither is a two-tower: EASE has a weight for every pair of items, and no vector that an index could search.
They say what a dataset gives away. Validation users choose EASE's l2; the test users are looked at once, with
that. The whole history counts.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.linear_models import Ease, ItemNeighbours  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.settings import CHOSEN_BY  # noqa: E402
from pipelines.command_line import command, report  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Directory made by pipelines/prepare.py.", required=True)
flags.DEFINE_list("l2", ["50", "200", "500"], "Weights of EASE's squares to try.")
flags.DEFINE_string("output", None, "Directory of the record. None: docs/results/yardstick.")

_USERS_AT_ONCE = 256
_SHOWN = ("recall@20", "recall@50", "ndcg@50", "hr@50")


def main() -> None:
    """Fits, chooses on validation users, measures on test users, stores."""
    try:
        weights = [float(one) for one in FLAGS.l2]
    except ValueError:
        weights = []
    if not weights or min(weights) <= 0:
        raise InputError(f"--l2={','.join(FLAGS.l2)}: wanted numbers above 0, with commas between them.")
    from causerec_tf import records
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.files import write_json

    dataset = open_dataset(FLAGS.dataset)
    interactions_UV = _matrix(dataset.read("train").rows(), dataset.num_items)
    neighbours = ItemNeighbours(interactions_UV)
    rows = [{"model": "item_neighbours", "validation": _measure(neighbours.scores, dataset, "validation")}]
    _show(rows[-1])
    best, best_row = None, None
    for l2 in weights:
        started = time.perf_counter()
        model = Ease(interactions_UV, l2)
        rows.append({"model": "ease", "l2": l2, "seconds_to_fit": time.perf_counter() - started})
        rows[-1]["validation"] = _measure(model.scores, dataset, "validation")
        _show(rows[-1])
        if best_row is None or _chosen_by(rows[-1]) > _chosen_by(best_row):
            best, best_row = model, rows[-1]
        del model
    assert best is not None and best_row is not None
    for model, row in ((neighbours, rows[0]), (best, best_row)):
        row["test"] = _measure(model.scores, dataset, "test")
        _show(row, "test")
    output = Path(FLAGS.output) if FLAGS.output else ROOT / "docs" / "results" / "yardstick"
    output.mkdir(parents=True, exist_ok=True)
    record = {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "rows": rows,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    write_json(output / f"{dataset.name}.json", record)
    print(f"stored {output / f'{dataset.name}.json'}")


def _matrix(lists, num_items: int) -> scipy.sparse.csr_matrix:
    """1 where a user has an item, float32 [users, items]."""
    rows, _ = lists.rows_and_positions()
    ones = np.ones(len(rows), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (rows, lists.items - 1)), shape=(len(lists), num_items))
    matrix.data[:] = 1  # an item taken twice counts once
    return matrix


def _measure(scores: Callable, dataset, split: str) -> dict[str, dict[str, float]]:
    """Figures of a split, with seen items in the lists and without them."""
    from causerec_tf import evaluation
    from causerec_tf.data.holdout import evaluation_users

    users = evaluation_users(dataset.read(split), max_history=1)
    unseen = users.with_unseen_targets()
    k = max(evaluation.CUTOFFS)

    def ranked(users, *, exclude_seen: bool) -> np.ndarray:
        histories_BV = _matrix(users.seen, dataset.num_items)
        best = np.zeros([len(users), k], np.int32)
        for first in range(0, len(users), _USERS_AT_ONCE):
            block = histories_BV[first : first + _USERS_AT_ONCE]
            scores_BV = scores(block)
            if exclude_seen:
                scores_BV[block.nonzero()] = -np.inf
            order_BK = np.argsort(-scores_BV, axis=1, kind="stable")[:, :k]
            is_left_out_BK = np.isneginf(np.take_along_axis(scores_BV, order_BK, axis=1))
            rows = slice(first, first + len(scores_BV))
            best[rows, : order_BK.shape[1]] = np.where(is_left_out_BK, 0, order_BK + 1)
        return best

    return {
        "seen_items_kept": evaluation.figures(ranked(users, exclude_seen=False), users),
        "seen_items_left_out": evaluation.figures(ranked(unseen, exclude_seen=True), unseen),
    }


def _chosen_by(row: dict) -> float:
    return row["validation"]["seen_items_kept"][CHOSEN_BY]


def _show(row: dict, split: str = "validation") -> None:
    for policy, figures in row[split].items():
        name = f"{row['model']} {row.get('l2', '')}".strip()
        shown = " ".join(f"{metric} {figures[metric]:.4f} " for metric in _SHOWN)
        print(f"{split:10} {name:16} {policy:20} {shown}", flush=True)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
