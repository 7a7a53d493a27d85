"""Publishes a trained run as the next version of a bundle, or rolls the bundle back.

python export/bundle.py --run=runs/quickstart --bundle=bundles/quickstart
python export/bundle.py --bundle=bundles/quickstart --rollback
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from causerec_tf.errors import InputError
from export.index.index_options import INDEX_MEMORIES, INDEX_METHODS, MOST_PARTS, IndexOptions
from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT
from export.store.layout import (
    MOST_WARM_UP_HISTORIES,
    WARM_UP_HISTORIES,
    check_place,
    resolve_number,
    written_in,
)
from pipelines.command_line import command, outputs, trained_runs

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Directory of the trained run to publish.")
flags.DEFINE_string("dataset", None, "Where the run's dataset is now, if it was moved.")
flags.DEFINE_string("bundle", None, "Directory of the bundle; made when it does not exist.", required=True)
flags.DEFINE_float(
    "target_recall",
    IndexOptions.target_recall,
    f"Recall@{IndexOptions.k} that the index must reach against exact search.",
)
flags.DEFINE_enum(
    "index_method",
    IndexOptions.method,
    INDEX_METHODS,
    "auto: exact search for small catalogues, otherwise a tree.",
)
flags.DEFINE_enum(
    "index_memory",
    IndexOptions.memory,
    INDEX_MEMORIES,
    "Item vectors in memory: full, half or a quarter of the size. Refused if the target recall is missed.",
)
flags.DEFINE_integer(
    "index_parts",
    IndexOptions.parts,
    "Cut the index into so many parts, built side by side in less memory. 0: as few as hold a GiB each.",
    lower_bound=0,
    upper_bound=MOST_PARTS,
)
flags.DEFINE_integer("keep", VERSIONS_KEPT, "How many versions to keep, including the new one.")
flags.DEFINE_integer(
    "warm_up_requests",
    WARM_UP_HISTORIES,
    "How many real histories a model server replays when it starts.",
    lower_bound=0,
    upper_bound=MOST_WARM_UP_HISTORIES,
)
flags.DEFINE_list(
    "evaluations",
    [],
    "Records of pipelines/evaluate.py --output: their figures go into the model card, beside the run's own.",
)
flags.DEFINE_bool("rollback", False, "Publish the previous version again, under a higher number.")
flags.DEFINE_bool("dry_run", False, "Only say what would be done.")

# A run that shares less than this with the version before, of the smaller catalogue, may be the wrong one.
_LEAST_SHARED = 0.1


def main() -> None:
    """Publishes or rolls back, and says what was done."""
    if not FLAGS.bundle:
        raise BundleError("--bundle is empty; give the directory of the bundle.")
    bundle = Path(FLAGS.bundle)
    if FLAGS.rollback == (FLAGS.run is not None):
        raise BundleError("Give either --run=DIR to publish it, or --rollback.")
    # Before the run is read, which takes a while.
    if FLAGS.rollback:
        resolve_number(bundle, None)
    else:
        check_place(bundle)
    for place in written_in(bundle) if not FLAGS.dry_run else ():
        outputs.check_place(place, "--bundle", BundleError, is_filled=True)
    from export.publishing import publish  # loads TensorFlow: the flags first

    if FLAGS.rollback:
        publication = publish.roll_back(bundle, dry_run=FLAGS.dry_run)
    else:
        publication = _publish_run(bundle)
    _print(bundle, publication)


def _publish_run(bundle: Path) -> Any:
    from export.publishing.publish_run import publish_run

    trained = trained_runs.load_one(FLAGS.run, FLAGS.dataset)
    _note_catalogue(bundle, trained.dataset.item_ids())
    names = (
        "target_recall",
        "index_method",
        "index_memory",
        "index_parts",
        "keep",
        "warm_up_requests",
        "evaluations",
        "dry_run",
    )
    return publish_run(trained, bundle, **{name: getattr(FLAGS, name) for name in names})


def _note_catalogue(bundle: Path, item_ids: Sequence[str]) -> None:
    """Says where the run's items are not those of the latest version, as those of a new day are not."""
    from export.publishing.current import current_catalogue

    current = current_catalogue(bundle)
    if current is None:
        return
    number, catalogue = current
    if catalogue.is_updated:
        print(
            f"note: the items of version {number} were changed by export/update_index.py; the new"
            " version has only the items of the run. Apply the changes that still hold again."
        )
    before, now = frozenset(catalogue.answered_ids), frozenset(item_ids)
    kept = len(before & now)
    counts = (
        f"{len(now) - kept:,} of the run's {len(now):,} items are new, {len(before) - kept:,} of the"
        f" {len(before):,} of version {number} are gone, {kept:,} are in both"
    )
    if kept < _LEAST_SHARED * min(len(before), len(now)):
        print(
            f"WARNING: is --run={FLAGS.run} meant for this bundle? {counts}. --rollback takes it back.",
            file=sys.stderr,
        )
    elif before != now:
        print(f"note: {counts} ({kept / len(before):.1%} of those before)")


def _print(bundle: Path, publication: Any) -> None:
    from export.index.recall_curve import format_curve

    index = publication.index
    if index is not None:
        if not publication.index_reused:
            print(format_curve(index))
        recall = "not measured" if index["recall"] is None else f"{index['recall']:.4f}"
        print(
            f"index {publication.fingerprint}: {index['method']} search of {index['items']:,} items,"
            f" recall@{index['k']} {recall} against exact search on {index['queries']:,} users;"
            f" {index['memory']} vectors, {index['searched_bytes'] / 1e6:,.1f} MB to search"
        )
    unchanged = "is this model already"
    if not publication.index_reused:
        built = "would be" if FLAGS.dry_run else "was"
        unchanged += f"; its index, missing or damaged, {built} built again"
    print(publication.outcome(bundle, dry_run=FLAGS.dry_run, unchanged=unchanged))


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError, InputError))
