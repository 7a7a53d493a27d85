"""A bundle whose tower reads features: the retriever, here and beside a server, and files of many users."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import export
from export.batch.answering import Answering, write_answers
from export.batch.history_files import Columns, read_histories
from export.batch.job_settings import JobSettings
from export.batch.recommendation_files import RecommendationWriter, schema_of
from export.publishing.updates import Update, update_index
from export.query import Query
from export.store.bundle_errors import BundleError, QueryError
from export.tower_columns import TowerColumns
from export.towers.remote import RemoteTower
from tests.export.featured import IDS, best, vector
from tests.export.model_server import ModelServer, over_grpc

pytestmark = pytest.mark.usefixtures("trusted_copies")

USER = {"country": "nl", "tags": ["vip"], "age": -2.0, "taste": [0.5, 0.25]}
ROWS = [{"id": IDS[3], "kind": "buy", "rating": 1.0, "time": 9}, "never seen", IDS[8]]
TWIN_ROWS = [(IDS[3], {"kind": "buy", "rating": 1.0, "time": 9}), (IDS[8], {})]
QUERIES = [
    Query(ROWS, 6, user=USER, context={"device": "watch"}, time=1003),
    Query([IDS[0], IDS[1]], 4),
    Query([], 5, user={"country": "日本"}),
    Query(["never seen"], 3, user={"country": "fr"}),
    Query([], 3, time=12),
]


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(featured_bundle):
    return featured_bundle


@pytest.fixture(name="retriever", scope="module")
def fixture_retriever(bundle):
    return export.Retriever.open(bundle)


def check(answers):
    wanted = [
        best(vector(TWIN_ROWS, USER, {"device": "watch"}, 1003), 6, (IDS[3], IDS[8])),
        best(vector([IDS[0], IDS[1]]), 4, IDS[:2]),
        best(vector([], {"country": "日本"}), 5),
        IDS[:3],
        IDS[:3],
    ]
    assert [one.items for one in answers] == wanted
    assert [one.fallback for one in answers] == [False, False, False, True, True]
    assert [one.num_unknown for one in answers] == [1, 0, 0, 1, 0]
    assert [one.num_unknown_values for one in answers] == [1, 0, 0, 1, 0]


def test_queries_are_answered_by_what_is_given_with_them(retriever):
    check(retriever.recommend(QUERIES))
    check([retriever.recommend([one])[0] for one in QUERIES])


def test_a_tower_on_a_server_answers_the_same(bundle):
    with over_grpc(ModelServer(bundle / "user_tower" / "1")) as address:
        tower = RemoteTower(address, columns=TowerColumns.newest(bundle))
        check(export.Retriever.open(bundle, tower=tower).recommend(QUERIES, timeout=300))
        tower.close()


def test_a_mistake_is_an_error_of_the_query_in_words(retriever):
    with pytest.raises(QueryError, match=r"user has 'colour', which the tower does not read"):
        retriever.recommend([QUERIES[0], Query([], 3, user={"colour": "red"})])


def test_an_explanation_leaves_an_item_out_with_all_that_stands_beside_it(retriever):
    answer, influences = retriever.recommend_explained(QUERIES[0])
    check([answer, *retriever.recommend(QUERIES[1:])])
    whole = vector(TWIN_ROWS, USER, {"device": "watch"}, 1003)
    for one in influences:
        rest = [row for row in TWIN_ROWS if row[0] != one.item]
        moved = vector(rest, USER, {"device": "watch"}, 1003) - whole
        assert one.vector_change == pytest.approx(np.linalg.norm(moved), abs=1e-4)
    assert {one.item for one in influences} == {IDS[3], IDS[8]}
    answer, influences = retriever.recommend_explained(QUERIES[2])
    assert (answer.items, answer.fallback, influences) == (
        best(vector([], {"country": "日本"}), 5),
        False,
        [],
    )


def test_an_updated_index_keeps_what_the_tower_reads(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "b")
    asked = vector([], {"country": "日本"})
    update_index(tmp_path / "b", Update(upsert_ids=["new"], upsert_vectors=100 * asked[None].astype("f4")))
    updated = export.Retriever.open(tmp_path / "b")
    assert updated.recommend([QUERIES[2]])[0].items == ["new", *best(asked, 4)]
    assert updated.columns == TowerColumns.newest(bundle)


FLAT = {
    "user_country": "nl",
    "user_tags": "vip",
    "user_age": "-2",
    "user_taste": "[0.5, 0.25]",
    "request_device": "watch",
    "request_time": "1970-01-01T00:16:43",
}


def written(tmp_path, kind):
    """The first, the second and the third query in files of each format."""
    ids = [IDS[3], "never seen", IDS[8]]
    path = tmp_path / f"h.{kind}"
    typed = FLAT | {"user_age": -2.0, "user_taste": [0.5, 0.25], "user_tags": ["vip"], "request_time": 1003}
    lines = [
        {"user_id": "u1", "history": ROWS} | typed,
        {"user_id": "u2", "history": [IDS[0], IDS[1]]},
        {"user_id": "u3", "history": [], "user_country": "日本"},
    ]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    elif kind == "parquet":
        events = {
            "event_kind": [["buy", None, None], None, []],
            "event_rating": [[1.0, None, None], None, []],
        }
        events["event_time"] = [[9, None, None], None, []]
        frame = {"user_id": ["u1", "u2", "u3"], "history": [ids, IDS[:2], []]}
        frame |= {name: [one.get(name) for one in lines] for name in typed}
        pl.DataFrame(frame | events, strict=False).write_parquet(path)
    else:
        names = ["user_id", "history", *FLAT, "event_kind", "event_rating", "event_time"]
        rows = [
            ["u1", ";".join(ids), *FLAT.values(), "buy;;", "1.0;;", "9;;"],
            ["u2", ";".join(IDS[:2]), *[""] * 9],
            ["u3", "", "日本", *[""] * 8],
        ]
        path.write_text("".join("\t".join(row) + "\n" for row in [names, *rows]), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "tsv"])
def test_files_have_columns_of_features(retriever, tmp_path, kind):
    settings = JobSettings(k=6, columns=Columns(separator=";"))
    answering = Answering(retriever, settings)
    output = tmp_path / "out.jsonl"
    with RecommendationWriter(
        output, overwrite=False, schema=schema_of(retriever.columns, settings)
    ) as writer:
        tally = write_answers(answering, [written(tmp_path, kind)], writer, lambda *_: None)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["items"] for row in rows] == [
        best(vector(TWIN_ROWS, USER, {"device": "watch"}, 1003), 6, (IDS[3], IDS[8])),
        best(vector([IDS[0], IDS[1]]), 6, IDS[:2]),
        best(vector([], {"country": "日本"}), 6),
    ]
    assert [row["num_unknown_values"] for row in rows] == [1, 0, 0]
    assert (tally.counts["unknown_values"], tally.counts["fallbacks"]) == (1, 0)
    assert (tally.counts["given user_country"], tally.counts["given user_age"]) == (2, 1)
    assert tally.counts["given event_kind"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"history": [], "user_age": "old"}, r"line 1: user\.age: got 'old'; it is numeric"),
        (
            {"history": ["a", "b"], "event_rating": [1]},
            r"line 1: event_rating is \[1\]; wanted a list of 2 values",
        ),
        ({"history": [{"rating": 1}]}, r"line 1: None is not an id"),
        ({"history": [{"id": "a", "colour": 1}]}, r"line 1: history has 'colour'"),
        ({"history": [], "request_time": "noon"}, r"line 1: time: got 'noon'"),
    ],
)
def test_a_bad_value_is_an_error_of_its_row(retriever, tmp_path, line, message):
    path = tmp_path / "h.jsonl"
    path.write_text(json.dumps({"user_id": "u"} | line) + '\n{"user_id": "v", "history": []}\n')
    with pytest.raises(BundleError, match=message):
        list(read_histories([path], Columns(), retriever.columns))
    skipped: list = []
    rows = list(read_histories([path], Columns(), retriever.columns, on_bad_row=skipped.append))
    assert ([row.user_id for row in rows], len(skipped)) == (["v"], 1)
