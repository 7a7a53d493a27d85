"""Whether a table of names or categories is about the items at all, and how one sees why it is not."""

import pytest

from pipelines.command_line.item_tables import coverage

ITEMS = ["0017", "0018", "x", "0020"]


class Refused(ValueError):
    pass


def told(table, items=ITEMS):
    return coverage("--item_names=n.csv", "name", dict.fromkeys(table, "N"), items, Refused)


def test_what_covers_half_of_the_items_or_more_is_counted():
    assert told(["id", *ITEMS, "more"]) == "--item_names=n.csv: 4 of 4 items have a name"
    assert told(["x", "0017"]) == "--item_names=n.csv: 2 of 4 items have a name"


@pytest.mark.parametrize(
    ("table", "got", "wanted"),
    [
        (["id", "18", "17"], "18", "0018"),  # numbers without their zeros
        (["id", "A1", " x "], " x ", "x"),  # white space
        (["id", "X", "A1"], "X", "x"),
        (["id", "A1", "title"], "A1", "0017"),  # nothing is alike: one that is not the header
    ],
)
def test_a_table_of_other_ids_is_refused_with_an_example_of_both(table, got, wanted):
    with pytest.raises(Refused) as refused:
        told(table)
    assert str(refused.value) == (
        f"--item_names=n.csv has a name for none of the 4 items: it has ids such as {got!r}, and no line for"
        f" {wanted!r}. Wanted a table whose first column has the items' ids, spelt as they are in the log."
    )


def test_an_empty_table_is_refused():
    with pytest.raises(Refused, match="none of the 4 items: it has no line for '0017'"):
        told([])


def test_few_items_get_a_note():
    counted = "--item_names=n.csv: 1 of 4 items have a name\nnote: these are few; "
    asks = ". Is it the table of this log?"
    assert told(["0018", "20"]) == f"{counted}it has ids such as '20', and no line for '0020'{asks}"
    assert told(["id", "x"]) == f"{counted}it has no line for '0017'{asks}"
