"""Writes the attributes of items that filters read into a bundle; no version of it changes.

python export/item_attributes.py --bundle=bundles/shop --item_table=items.csv --item_column=sku
python export/item_attributes.py --bundle=bundles/shop --item_table=items.parquet --columns=price,brand
"""

import shutil
from pathlib import Path

from absl import flags

from export.store.bundle_errors import BundleError
from export.store.layout import (
    ATTRIBUTES_FOLDER,
    attribute_numbers,
    attributes_directory,
    beside,
    commit,
    index_directory,
    newest,
    read_tower,
    resolve_number,
)
from pipelines.command_line import command, outputs

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_string(
    "item_table", None, "A row for each item: .csv, .tsv, .jsonl (also .gz) or .parquet.", required=True
)
flags.DEFINE_string("item_column", "item_id", "Column of the item ids.")
flags.DEFINE_list("columns", [], "Columns to take; none given: all.")
flags.DEFINE_list("category_columns", [], "Columns whose numbers are names, not amounts.")
flags.DEFINE_list("multi_columns", [], "Columns of text that hold several values.")
flags.DEFINE_string("multi_separator", "|", "Separator of these values.")
flags.DEFINE_list("time_columns", [], "Columns of ISO 8601 text, or of seconds since 1970.")
flags.DEFINE_integer("keep", 2, "How many of the last tables to keep, including the new one.", 1)


def main() -> None:
    """Reads the table, writes it beside its place and renames it."""
    bundle = Path(FLAGS.bundle)
    resolve_number(bundle, None)
    if not FLAGS.multi_separator:
        raise BundleError("--multi_separator is empty; it must be at least one character.")
    from export.filters.item_table import read_item_table
    from export.index.labels import read_ids
    from export.store.housekeeping import collect_attributes, locked

    attributes = read_item_table(
        Path(FLAGS.item_table),
        FLAGS.item_column,
        columns=FLAGS.columns,
        category=FLAGS.category_columns,
        multi=FLAGS.multi_columns,
        time=FLAGS.time_columns,
        separator=FLAGS.multi_separator,
    )
    version = newest(bundle, read_tower)["version"]
    catalogue = set(read_ids(index_directory(bundle, version)))
    known = sum(item in catalogue for item in attributes.ids)
    if not known:
        raise BundleError(
            f"None of the {len(attributes.ids):,} items of {FLAGS.item_table} is in the catalogue of"
            f" {bundle}. Does --item_column={FLAGS.item_column} name the ids of the log?"
        )
    outputs.check_place(bundle / ATTRIBUTES_FOLDER, "--bundle", BundleError, is_filled=True)
    with locked(bundle):
        number = max(attribute_numbers(bundle), default=0) + 1
        place = attributes_directory(bundle, number)
        made = beside(place, "building")
        shutil.rmtree(made, ignore_errors=True)
        attributes.save(made)
        commit(made, place)
        collect_attributes(bundle, FLAGS.keep)
    for name, column in attributes.columns.items():
        print(f"{name}: {column.kind}")
    print(
        f"{known:,} of {len(catalogue):,} items of the catalogue have attributes;"
        f" {len(attributes.ids) - known:,} items of the table are not in it"
    )
    print(f"{place} is used by every version; services take it up by themselves")


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError,))
