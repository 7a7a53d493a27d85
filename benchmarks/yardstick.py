"""What item-to-item models reach under the protocol of our systems: EASE and nearest neighbours of items.

    python benchmarks/yardstick.py --dataset=datasets/yelp2018_tenth --l2=50,200,500

Neither is a two-tower: EASE has a weight for every pair of items, and no vector that an index could search.
They say what a dataset gives away. Validation users choose EASE's l2; the test users are looked at once, with
that. The whole history counts.
"""

import sys
import time
from pathlib import Path

from absl import flags

# This folder is no part of the installed packages, and its own place would hide that it is one.
ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from causerec_tf.baselines.ease import Ease  # noqa: E402
from causerec_tf.baselines.item_neighbours import ItemNeighbours  # noqa: E402
from causerec_tf.errors import InputError  # noqa: E402
from causerec_tf.settings import Settings  # noqa: E402
from pipelines.command_line import command, report  # noqa: E402

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", None, "Directory made by pipelines/prepare.py.", required=True)
flags.DEFINE_list("l2", ["50", "200", "500"], "Weights of EASE's squares to try.")
flags.DEFINE_float("most_memory", 8.0, "GiB that the matrix of EASE may take.", lower_bound=0.0)
flags.DEFINE_string("output", None, "Directory of the record. None: docs/results/yardstick.")

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
    from causerec_tf.data.training_events import TrainingEvents
    from causerec_tf.files import write_json

    dataset = open_dataset(FLAGS.dataset)
    training = TrainingEvents(dataset)
    neighbours = ItemNeighbours()
    neighbours.fit(training)
    rows = [{"model": "item_neighbours", "validation": _measure(neighbours, dataset, "validation")}]
    _show(rows[-1])
    best, best_row = None, None
    for l2 in weights:
        started = time.perf_counter()
        model = Ease(l2, most_memory=FLAGS.most_memory)
        if reason := model.refusal(training):
            raise InputError(reason)
        model.fit(training)
        rows.append({"model": "ease", "l2": l2, "seconds_to_fit": time.perf_counter() - started})
        rows[-1]["validation"] = _measure(model, dataset, "validation")
        _show(rows[-1])
        if best_row is None or _chosen_by(rows[-1]) > _chosen_by(best_row):
            best, best_row = model, rows[-1]
        del model
    assert best is not None and best_row is not None
    for model, row in ((neighbours, rows[0]), (best, best_row)):
        row["test"] = _measure(model, dataset, "test")
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


def _measure(model, dataset, split: str) -> dict[str, dict[str, float]]:
    """Figures of a split, with seen items in the lists and without them."""
    from causerec_tf import evaluation, measurement
    from causerec_tf.metrics import CUTOFFS

    def figures(users, *, exclude_seen: bool) -> dict[str, float]:
        k = max(CUTOFFS)
        [ranked] = evaluation.rank_by_scores(model.scores, dataset.num_items, users, k, [exclude_seen])
        return evaluation.figures(ranked, users)

    users = measurement.users_of(dataset, split, max_history=1)
    return {
        "seen_items_kept": figures(users, exclude_seen=False),
        "seen_items_left_out": figures(users.with_unseen_targets(), exclude_seen=True),
    }


def _chosen_by(row: dict) -> float:
    return row["validation"]["seen_items_kept"][Settings.choose_by]


def _show(row: dict, split: str = "validation") -> None:
    for policy, figures in row[split].items():
        name = f"{row['model']} {row.get('l2', '')}".strip()
        shown = " ".join(f"{metric} {figures[metric]:.4f} " for metric in _SHOWN)
        print(f"{split:10} {name:16} {policy:20} {shown}", flush=True)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))
