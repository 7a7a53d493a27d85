"""Rules of a bundle: newer attributes are taken up, unless they would make every answer fail."""

import numpy as np
import pytest

from export.filters.expression import parse_filter
from export.filters.stored_attributes import ItemAttributes, Numbers
from export.index.index_options import IndexOptions
from export.item_rules import ItemRules
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.publishing.updates import Update, update_index
from export.query import Query
from export.retriever import Retriever
from export.store.bundle_errors import FilterError
from tests.export import toy

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_ITEMS, DIMENSION = 30, 6
IDS = [f"item-{number}" for number in range(NUM_ITEMS)]


@pytest.fixture
def bundle(tmp_path):
    table = toy.embeddings(NUM_ITEMS, DIMENSION)
    model = Model(table, toy.MeanTower(DIMENSION), table[1:], IDS, 4, None)
    queries = np.random.default_rng(0).normal(size=(9, DIMENSION)).astype(np.float32)
    options = IndexOptions(method="exact")
    publish(tmp_path / "b", model, queries=queries, warm_up_histories=[], options=options)
    return tmp_path / "b"


def write(bundle, number, **columns):
    attributes = {name: Numbers("numeric", np.array(values, float)) for name, values in columns.items()}
    ItemAttributes(IDS, attributes).save(bundle / "item_attributes" / str(number))


def test_attributes_without_the_column_of_the_default_filter_are_not_taken_up(bundle):
    write(bundle, 1, price=range(NUM_ITEMS))
    rules = ItemRules(bundle, default_filter=parse_filter({"price": {"lt": 10}}), deny=["item-2"])
    retriever = Retriever.open(bundle, rules=rules)
    wanted = {f"item-{number}" for number in range(10)} - {"item-2"}
    assert set(retriever.recommend([[]], 30)[0].items) == wanted
    assert not rules.follow(retriever.catalogue)
    write(bundle, 2, size=range(NUM_ITEMS))
    with pytest.raises(FilterError, match="no attribute 'price'; they have 'size'"):
        rules.follow(retriever.catalogue)
    assert rules.attributes_number == 1
    assert set(retriever.recommend([[]], 30)[0].items) == wanted
    write(bundle, 3, price=range(NUM_ITEMS, 0, -1))
    assert rules.follow(retriever.catalogue)
    assert set(retriever.recommend([[]], 30)[0].items) == {f"item-{number}" for number in range(21, 30)}


def test_withdrawn_items_pass_no_filter_and_added_ones_may(bundle):
    write(bundle, 1, price=range(NUM_ITEMS))
    vectors = np.ones((1, DIMENSION), np.float32)
    update = Update(upsert_ids=["new"], upsert_vectors=vectors, delete_ids=["item-3", "item-4"])
    update_index(bundle, update)
    retriever = Retriever.open(bundle)
    [plain, cheap, missing, listed] = retriever.recommend(
        [
            Query(["item-1"]),
            Query(["item-1"], filter={"price": {"lt": 6}}),
            Query(["item-1"], filter={"price": {"missing": True}}),
            Query(["item-1"], allow=["item-4", "item-5", "new", "of no version"], deny=["item-5"]),
        ],
        40,
    )
    assert (len(plain.items), plain.plan) == (NUM_ITEMS - 2, "index")
    assert set(cheap.items) == {"item-0", "item-2", "item-5"}
    assert missing.items == listed.items == ["new"]
    (bundle / "unavailable.txt").write_text("new\nitem-0\n")
    again = Retriever.open(bundle)
    assert set(again.recommend([Query(["item-1"], 40, filter={"price": {"lt": 6}})])[0].items) == {
        "item-2",
        "item-5",
    }
    [similar] = again.similar(Query(["item-1"], 40))
    assert len(similar.items) == NUM_ITEMS - 4 and not {"new", "item-0", "item-3"} & set(similar.items)
    [similar] = again.similar(Query(["item-1"], 40, filter={"price": {"le": 2}}))
    assert similar.items == ["item-2"]
