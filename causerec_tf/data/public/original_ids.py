"""Published datasets number their users and items; a table beside them says which number is whose."""

from pathlib import Path

import polars as pl

from causerec_tf.data.logs.log_records import read_text_lines
from causerec_tf.errors import InputError

_HEADER = ("org_id", "remap_id")


def read_original_ids(path: Path) -> dict[str, str]:
    """Reads a table of original id and number, and gives number -> original id.

    Args:
      path: `user_list.txt` or `item_list.txt` (LightGCN: separated by a space, with a header; a
        third column is ignored), or `book_user_map.txt` or `book_item_map.txt` (ComiRec: separated
        by a comma, without a header).

    Raises:
      InputError: the file or a line of it cannot be used, or an id or a number stands there twice.
    """
    originals: dict[str, str] = {}
    met: set[str] = set()
    for number, line in enumerate(read_text_lines(path), start=1):
        fields = line.strip().rsplit(",", 1) if "," in line else line.split()
        if not fields or (number == 1 and tuple(fields[:2]) == _HEADER):
            continue
        if len(fields) < 2 or not fields[0] or not fields[1].isdecimal():
            raise InputError(
                f"{path}, line {number}: got {line.strip()!r}; wanted an original id and the number that"
                " stands for it in the dataset."
            )
        original, numbered = fields[0], str(int(fields[1]))
        if numbered in originals or original in met:
            raise InputError(
                f"{path}, line {number}: the id {original!r} or the number {numbered} stands in an earlier"
                " line too; wanted one number for each id."
            )
        originals[numbered] = original
        met.add(original)
    if not originals:
        raise InputError(f"{path} is empty; wanted lines of original id and number.")
    return originals


def restore_ids(ids: pl.Series, originals: dict[str, str], path: Path) -> pl.Series:
    """Puts original ids, from the table at a path, in the place of numbers as text, [rows]."""
    restored = ids.replace_strict(originals, default=None, return_dtype=pl.String)
    if restored.null_count():
        missing = ids.filter(restored.is_null())[0]
        raise InputError(
            f"{path} has no line for {ids.name} {missing!r} of the log. Wanted the table that was published"
            " with the log's files."
        )
    return restored
