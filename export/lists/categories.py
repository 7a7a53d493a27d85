"""The categories of items, from a file."""

from pathlib import Path

from export.store import text_files
from export.store.bundle_errors import BundleError


def read_categories(path: Path) -> dict[str, str]:
    """Reads a csv or tsv file without a header (or with one: it names an item that no bundle has).

    A line for each item: id, category; further columns are ignored. With tabs, without quoting, when it ends
    in .tsv or .tsv.gz; else csv.

    Returns:
      Item id -> category, of items that have one.

    Raises:
      BundleError: the file is missing, has a line that cannot be read, or no item with a category.
    """
    delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    categories = {}
    with text_files.opened(path) as (lines, _):
        for number, cells, problem in text_files.records(lines, delimiter):
            if problem is not None:
                raise BundleError(f"{path}, line {number}: {problem}.")
            item, category = (*cells, "", "")[:2]
            if item and category:
                categories[item] = category
    if not categories:
        raise BundleError(f"{path} has no item with a category; wanted two columns: item id and category.")
    return categories
