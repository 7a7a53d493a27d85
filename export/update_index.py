"""Adds, replaces and withdraws items of a published index, or builds it again: a new version each time.

python export/update_index.py --bundle=bundles/shop --upsert=new.jsonl --delete=withdrawn.txt
python export/update_index.py --bundle=bundles/shop --run=runs/shop --upsert=new_items.parquet
python export/update_index.py --bundle=bundles/shop --rebuild
"""

import dataclasses
from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT
from export.store.layout import resolve_number, written_in
from pipelines.command_line import command, outputs, trained_runs

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_string(
    "upsert",
    None,
    "Items to add or replace: .jsonl or .parquet with `id` and `vector`; with --run a table of features.",
)
flags.DEFINE_string("run", None, "Run of the bundle, whose item tower encodes the features of --upsert.")
flags.DEFINE_string("dataset", None, "With --run: where its dataset is now. None: where it was trained from.")
flags.DEFINE_string("item_column", "id", "With --run: the column of the ids.")
flags.DEFINE_string("name_column", "name", "With --run: a column of names for people; there may be none.")
flags.DEFINE_string("delete", None, "Text file with one id per line to withdraw.")
flags.DEFINE_bool("rebuild", False, "Build the index again, from its items after the changes.")
flags.DEFINE_integer("keep", VERSIONS_KEPT, "How many versions to keep, including the new one.")
flags.DEFINE_bool("dry_run", False, "Only check the files and say what would be done.")


def main() -> None:
    """Updates the latest version, and says what was measured."""
    if not (FLAGS.upsert or FLAGS.delete or FLAGS.rebuild):
        raise BundleError("Give --upsert=FILE, --delete=FILE or --rebuild.")
    for name in ("dataset", "item_column", "name_column"):
        if FLAGS[name].present and not FLAGS.run:
            raise BundleError(f"--{name} has no effect without --run; give both.")
    if FLAGS.run and not FLAGS.upsert:
        raise BundleError("--run encodes the items of --upsert=TABLE; give both.")
    bundle = Path(FLAGS.bundle)
    resolve_number(bundle, None)
    for place in written_in(bundle) if not FLAGS.dry_run else ():
        outputs.check_place(place, "--bundle", BundleError, is_filled=True)
    from export.index.update_files import read_deletes, read_upserts

    upserts = read_upserts(Path(FLAGS.upsert)) if FLAGS.upsert and not FLAGS.run else {}
    deletes = read_deletes(Path(FLAGS.delete)) if FLAGS.delete else []
    from export.publishing.updates import Update, update_index  # loads TensorFlow: the files first

    update = Update(delete_ids=deletes, rebuild=FLAGS.rebuild, **upserts)
    if FLAGS.run:
        described = _described(bundle)
        update = dataclasses.replace(described.update, delete_ids=deletes, rebuild=FLAGS.rebuild)
    publication = update_index(bundle, update, keep=FLAGS.keep, dry_run=FLAGS.dry_run)
    _print(publication, len(update.upsert_ids), len(deletes))


def _described(bundle: Path):
    """Encodes the items of --upsert, and says what of their features is not known."""
    from export.publishing.described_items import describe_items

    described = describe_items(
        trained_runs.load_one(FLAGS.run, FLAGS.dataset),
        bundle,
        FLAGS.upsert,
        item_column=FLAGS.item_column,
        name_column=FLAGS.name_column,
    )
    count = len(described.update.upsert_ids) + len(described.left_out)
    for key, missing in described.missing.items():
        unknown = described.unknown[key]
        never = f", {unknown:,} values that training never saw" if unknown else ""
        print(f"{key}: {missing:,} of {count:,} missing{never}")
    if described.left_out:
        print(
            f"{len(described.left_out):,} items are left out, such as {described.left_out[0]!r:.100}: nothing"
            " is known of them"
        )
    if described.num_known:
        print(
            f"{described.num_known:,} of the items are known to the run: what it learned of their ids stays"
        )
    return described


def _print(publication, num_upserts: int, num_deletes: int) -> None:
    index = publication.index
    new = "" if publication.added is None else f" ({publication.added:,} new)"
    print(f"{num_upserts:,} items to upsert{new}, {num_deletes:,} to delete")
    if index is not None:
        if publication.action == "rebuilt":
            from export.index.recall_curve import format_curve

            print(format_curve(index))
        print(_measured(index))
        for reason in index.get("now", {}).get("rebuild_advised", []):
            print(f"rebuild advised: {reason}; run this with --rebuild, or publish a new run")
    unchanged = "was made by this update already"
    print(publication.outcome(Path(FLAGS.bundle), dry_run=FLAGS.dry_run, unchanged=unchanged))


def _measured(index: dict) -> str:
    def figures(point: dict) -> str:
        if point["recall"] is None:
            return "not measured"
        return f"{point['recall']:.4f} in {point['milliseconds_per_query']:.3f} ms"

    line = f"{index['items']:,} items, recall@{index['k']} against exact search {figures(index)} at the build"
    if "now" not in index:
        return line
    now = index["now"]
    return (
        f"{line}, {figures(now)} now; {now['searched_beside']:,} searched beside the index,"
        f" {now['withdrawn']:,} withdrawn, {now['changed_share']:.1%} changed"
    )


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError, InputError))
