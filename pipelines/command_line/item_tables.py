"""Whether a table by item id, of names or categories, is about these items at all.

What is wrong is raised as the script's own kind of bad input: preparation and retrieval share no errors,
since what is exported knows nothing of training.
"""

from collections.abc import Mapping, Sequence

_FEW = 0.5  # of the items: with a line for fewer it may be the table of another catalogue


def coverage(
    flag: str, what: str, table: Mapping[str, str], item_ids: Sequence[str], bad_input: type[Exception]
) -> str:
    """A line to print of how many items a table by item id has a line for, with a note where they are few.

    `flag` named the table, such as `--item_names=names.csv`; `what` it has for an item is a `name`, say.
    Where it has a line for none, `bad_input` is raised.
    """
    known = sum(item in table for item in item_ids)
    if not known:
        raise bad_input(
            f"{flag} has a {what} for none of the {len(item_ids):,} items: {_difference(table, item_ids)}."
            " Wanted a table whose first column has the items' ids, spelt as they are in the log."
        )
    counted = f"{flag}: {known:,} of {len(item_ids):,} items have a {what}"
    if known >= _FEW * len(item_ids):
        return counted
    return f"{counted}\nnote: these are few; {_difference(table, item_ids)}. Is it the table of this log?"


def _difference(table: Mapping[str, str], item_ids: Sequence[str]) -> str:
    """An id that is no item and an item without a line, as examples; the same in two spellings, if any is."""
    items = set(item_ids)
    missing = [item for item in item_ids if item not in table]
    unknown = [item for item in table if item not in items]
    spelt = {_bare(item): item for item in reversed(missing)}
    for got in unknown:
        if _bare(got) in spelt:
            return f"it has ids such as {got!r}, and no line for {spelt[_bare(got)]!r}"
    if not unknown or (len(unknown) == 1 and len(table) > 1):  # the one may be the header
        return f"it has no line for {missing[0]!r}"
    # One from the middle: the first or the last may be the header.
    return f"it has ids such as {unknown[len(unknown) // 2]!r}, and no line for {missing[0]!r}"


def _bare(item: str) -> str:
    return item.strip().casefold().lstrip("0")
