"""Adds, replaces and withdraws items of a published index, or builds it again: a new version each time.

python export/update_index.py --bundle=bundles/shop --upsert=new.jsonl --delete=withdrawn.txt
python export/update_index.py --bundle=bundles/shop --rebuild
"""

from pathlib import Path

from absl import flags

from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT
from export.store.layout import resolve_number, written_in
from pipelines.command_line import command, outputs

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_string("upsert", None, "Items to add or replace: .jsonl or .parquet with `id` and `vector`.")
flags.DEFINE_string("delete", None, "Text file with one id per line to withdraw.")
flags.DEFINE_bool("rebuild", False, "Build the index again, from its items after the changes.")
flags.DEFINE_integer("keep", VERSIONS_KEPT, "How many versions to keep, including the new one.")
flags.DEFINE_bool("dry_run", False, "Only check the files and say what would be done.")


def main() -> None:
    """Updates the latest version, and says what was measured."""
    if not (FLAGS.upsert or FLAGS.delete or FLAGS.rebuild):
        raise BundleError("Give --upsert=FILE, --delete=FILE or --rebuild.")
    bundle = Path(FLAGS.bundle)
    resolve_number(bundle, None)
    for place in written_in(bundle) if not FLAGS.dry_run else ():
        outputs.check_place(place, "--bundle", BundleError, is_filled=True)
    from export.index.update_files import read_deletes, read_upserts

    upserts = read_upserts(Path(FLAGS.upsert)) if FLAGS.upsert else {}
    deletes = read_deletes(Path(FLAGS.delete)) if FLAGS.delete else []
    from export.publishing.updates import Update, update_index  # loads TensorFlow: the files first

    update = Update(delete_ids=deletes, rebuild=FLAGS.rebuild, **upserts)
    publication = update_index(bundle, update, keep=FLAGS.keep, dry_run=FLAGS.dry_run)
    _print(publication, len(update.upsert_ids), len(deletes))


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
    command.run(main, bad_input=(BundleError,))
