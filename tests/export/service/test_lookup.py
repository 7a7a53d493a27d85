"""The search for items by a text, beside a twin that folds both for every comparison."""

import pytest

from export.index.catalogue import Catalogue
from tests.export import toy

IDS = toy.item_ids(40)
NAMES = [f"Straße {number} ÉTÉ" for number in range(40)]


class Counting(list):
    """A list that counts how often it is gone through."""

    rounds = 0

    def __iter__(self):
        self.rounds += 1
        return super().__iter__()


def twin(names, text, limit):
    wanted = text.casefold()
    folded = [(item, (name.casefold(), item.casefold())) for item, name in zip(IDS, names, strict=True)]
    first = [item for item, texts in folded if any(one.startswith(wanted) for one in texts)]
    later = [item for item, texts in folded if any(wanted in one for one in texts) and item not in first]
    return [*first, *later][:limit]


@pytest.mark.parametrize("names", [None, NAMES], ids=["ids alone", "names"])
@pytest.mark.parametrize(
    "text",
    ["", "ITEM-1", "é", "STRASSE 1", "straße", "été", "a\tb", "no such", "9", "1", "m-1", "\n", "0\nitem"],
)
def test_finds_what_the_twin_finds(names, text):
    catalogue = Catalogue(None, IDS, names)
    for limit in (1, 5, 100):
        assert catalogue.find(text, limit) == twin(names or IDS, text, limit)


@pytest.mark.parametrize("text", ["number 1", "item-", "39"])
def test_rows_of_several_texts_are_found(monkeypatch, text):
    monkeypatch.setattr("export.index.catalogue._ROWS_OF_A_TEXT", 7)
    catalogue = Catalogue(None, IDS, NAMES)
    for limit in (1, 9, 100):
        assert catalogue.find(text, limit) == twin(NAMES, text, limit)


def test_names_are_folded_once_and_not_before_the_first_search():
    names = Counting(NAMES)
    catalogue = Catalogue(None, IDS, names)
    assert names.rounds == 0
    for text in ("strasse", "item", "no such"):
        catalogue.find(text, 3)
    assert names.rounds == 1
