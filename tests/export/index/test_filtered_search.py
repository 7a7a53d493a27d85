"""Filtered searches beside a twin that scores every item that passes."""

import numpy as np
import pytest

from export.filters.expression import parse_filter
from export.filters.row_set import RowSet
from export.filters.stored_attributes import ItemAttributes, Labels, Numbers
from export.index import filtered_search
from export.index.building import build_index
from export.index.changes import IndexChanges
from export.index.filtered_search import Wanted, search
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from tests.export import toy
from tests.export.filters.twin import passes

NUM_ITEMS, DIMENSION, K = 3_000, 16, 20
VECTORS = toy.clustered(NUM_ITEMS, DIMENSION)
QUERIES = toy.clustered(40, DIMENSION, seed=5)
NOTHING = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The directories of a tree, of one in half of the memory, and of an exact index."""
    place = tmp_path_factory.mktemp("bundle") / "item_index"
    for name, method, memory in (
        ("tree", "tree", "full"),
        ("half", "tree", "bfloat16"),
        ("exact", "exact", "full"),
    ):
        options = IndexOptions(method=method, memory=memory, k=K, target_recall=0.98)
        index = build_index(VECTORS, queries=toy.clustered(200, DIMENSION, seed=3), options=options)
        ids = [str(row) for row in range(NUM_ITEMS)]
        index.save(place / name, fingerprint=name, item_ids=ids, item_vectors=VECTORS)
    return place


@pytest.fixture(params=["tree", "half", "exact", "changed tree"])
def index(request, saved):
    if request.param != "changed tree":
        return ItemIndex.load(saved / request.param), VECTORS, np.ones(NUM_ITEMS, bool)
    loaded = ItemIndex.load(saved / "tree")
    rng = np.random.default_rng(2)
    added = np.sort(rng.choice(NUM_ITEMS, 60, replace=False))
    added = np.append(added, np.arange(NUM_ITEMS, NUM_ITEMS + 40))
    withdrawn = np.setdiff1d(rng.choice(NUM_ITEMS, 300, replace=False), added)
    vectors = np.vstack([VECTORS, np.zeros((40, DIMENSION), np.float32)])
    vectors[added] = toy.clustered(len(added), DIMENSION, seed=9)
    changes = IndexChanges(NUM_ITEMS + 40, np.arange(NUM_ITEMS), added, vectors[added], withdrawn)
    live = np.ones(NUM_ITEMS + 40, bool)
    live[withdrawn] = False
    description = loaded.description | {"items": int(live.sum()), "vocabulary_size": NUM_ITEMS}
    changed = ItemIndex(loaded.engine, description, changes, loaded._vectors, loaded._leaves)
    return changed, vectors, live


def twin(vectors, query, mask, excluded, k):
    """The best k rows of a mask that are not excluded, scored one by one."""
    scored = []
    for row in np.flatnonzero(mask).tolist():
        if row not in excluded:
            scored.append((max(float(vectors[row] @ one) for one in np.atleast_2d(query)), row))
    return [row for _, row in sorted(scored, key=lambda one: (-one[0], one[1]))[:k]]


def recall(found, expected):
    return len(set(found.rows.tolist()) & set(expected)) / len(expected) if expected else 1.0


def masks_of(share, live, query, vectors):
    """Rows that pass: random ones, and those with the lowest scores for the query."""
    rng = np.random.default_rng(int(1e4 * share))
    yield "random", (rng.random(len(live)) < share) & live
    order = np.argsort(vectors @ query)
    lowest = np.zeros(len(live), bool)
    lowest[order[: max(1, int(share * len(live)))]] = True
    yield "against the query", lowest & live


@pytest.mark.parametrize("few", [0, 16_384], ids=["leaves where there are some", "exact where they are few"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_recall_is_kept_whatever_passes(index, share, few, monkeypatch):
    monkeypatch.setattr(filtered_search, "_FEW", few)
    monkeypatch.setattr(filtered_search, "_WIDEST", 2 * K)
    searched, vectors, live = index
    recalls, plans = [], set()
    for query in QUERIES[:12]:
        for kind, mask in masks_of(share, live, query, vectors):
            excluded = np.flatnonzero(mask)[:1]
            mask_set = RowSet(len(mask), mask=mask)
            listed = RowSet(len(mask), listed=np.flatnonzero(mask)[::-1])
            expected = twin(vectors, query, mask, set(excluded.tolist()), K)
            for allowed in (mask_set, listed):
                [found] = search(searched, query[None], [Wanted(K, excluded, allowed)])
                assert mask[found.rows].all() and not np.isin(found.rows, excluded).any(), kind
                assert len(set(found.rows.tolist())) == len(found.rows) == len(expected)
                assert (np.diff(found.scores) <= 0).all()
                recalls.append(recall(found, expected))
                plans.add(found.plan)
                if found.plan == "exact":
                    assert found.rows.tolist() == expected
    assert np.mean(recalls) >= 0.97
    assert plans <= {"over_fetch", "partitions", "exact", "empty"}
    if few and share <= 0.5:
        assert "exact" in plans


def test_several_vectors_a_user_and_requests_of_every_kind_together(index):
    searched, vectors, live = index
    rng = np.random.default_rng(4)
    users = rng.normal(size=(5, 2, DIMENSION)).astype(np.float32)
    half, few = live & (rng.random(len(live)) < 0.5), live & (rng.random(len(live)) < 0.004)
    seen = np.flatnonzero(live)[:700]
    wanted = [
        Wanted(K, NOTHING),
        Wanted(5, seen, RowSet(len(live), mask=half)),
        Wanted(7, NOTHING, RowSet(len(live), listed=np.flatnonzero(few))),
        Wanted(3, NOTHING, RowSet(len(live), listed=NOTHING)),
        Wanted(9, seen),
    ]
    masks = [live, half, few, np.zeros(len(live), bool), live]
    answers = search(searched, users, wanted)
    for one, mask, user, found in zip(wanted, masks, users, answers, strict=True):
        expected = twin(vectors, user, mask, set(one.excluded.tolist()), one.k)
        assert recall(found, expected) >= (1 if found.plan == "exact" else 0.8)
        [alone] = search(searched, user[None], [one])
        assert alone.rows.tolist() == found.rows.tolist() and alone.plan == found.plan
    assert answers[0].plan == "index" and answers[2].plan == "exact" and answers[3].plan == "empty"
    assert not len(answers[3].rows)
    assert search(searched, users[:0], []) == []


def test_leaves_with_one_and_with_several_places_agree_with_exact_search(saved):
    loaded = ItemIndex.load(saved / "tree")
    partitions, rows = loaded.partitions, np.arange(NUM_ITEMS)[::2]
    mask = np.zeros(NUM_ITEMS, bool)
    mask[rows] = True
    recalls = []
    for query in QUERIES:
        found, scores = partitions.search(loaded.exact, query[None], rows, K)
        np.testing.assert_allclose(scores, VECTORS[found] @ query, rtol=1e-5)
        recalls.append(len(set(found.tolist()) & set(twin(VECTORS, query, mask, (), K))) / K)
    assert np.mean(recalls) >= 0.99


FILTERS = [
    ({"group": ["0", "2", "5", "6"]}, "scan"),
    ({"group": "3"}, "scan"),
    ({"tags": ["0", "1"]}, "scan"),
    ({"number": {"lt": 0.3}}, "scan"),
    ({"number": {"ge": 0.3, "lt": 0.9}, "group": ["1", "2"]}, "scan"),
    ({"tags": {"all": ["0", "1"]}, "number": {"gt": 0.2}}, "scan"),
    ({"group": {"missing": True}}, "scan"),
    ({"group": "nothing has it"}, "empty"),
    ({"group": "3", "number": {"lt": 0}}, "empty"),
    ({"not": {"group": ["3", "4"]}}, None),
    ({"any": [{"group": "3"}, {"number": {"lt": 0.1}}]}, None),
]


@pytest.fixture(scope="module")
def attributes():
    """Values of each row as Python has them, and the table of them."""
    rng = np.random.default_rng(8)
    count = NUM_ITEMS + 40
    groups = [str(one) if one < 8 else None for one in rng.integers(9, size=count)]
    tags = [sorted({str(one) for one in rng.integers(6, size=rng.integers(4))}) for _ in range(count)]
    numbers = rng.random(count)

    def labels(kind, of_rows):
        pairs = [(row, int(label)) for row, some in enumerate(of_rows) for label in some]
        items, codes = np.array(pairs).T
        return Labels(kind, items, codes.astype(np.int32), [str(one) for one in range(8)])

    columns = {
        "group": labels("category", [[] if one is None else [one] for one in groups]),
        "tags": labels("multi", tags),
        "number": Numbers("numeric", numbers),
    }
    values = [
        {"group": group, "tags": some or None, "number": number}
        for group, some, number in zip(groups, tags, numbers.tolist(), strict=True)
    ]
    return values, ItemAttributes([str(row) for row in range(count)], columns)


@pytest.mark.parametrize(("wanted", "plan"), FILTERS, ids=[str(one) for one, _ in FILTERS])
def test_filters_over_columns_keep_recall(index, attributes, wanted, plan, monkeypatch):
    monkeypatch.setattr(filtered_search, "_VERY_FEW", 0)
    searched, vectors, live = index
    values, stored = attributes
    table = stored.by_row([str(row) for row in range(len(live))])
    mask = np.array([passes(one, wanted) for one in values[: len(live)]]) & live
    recalls, plans = [], set()
    for query in QUERIES[:8]:
        excluded = np.flatnonzero(mask)[:3]
        allowed = table.passing(parse_filter(wanted)).where(RowSet(len(live), mask=live))
        [found] = search(searched, query[None], [Wanted(K, excluded, allowed)])
        expected = twin(vectors, query, mask, set(excluded.tolist()), K)
        assert mask[found.rows].all() and not np.isin(found.rows, excluded).any()
        assert len(set(found.rows.tolist())) == len(found.rows) == len(expected)
        assert (np.diff(found.scores) <= 0).all()
        recalls.append(recall(found, expected))
        plans.add(found.plan)
    assert np.mean(recalls) >= 0.97
    if plan is not None and searched.partitions is not None:
        assert plans == {plan}
