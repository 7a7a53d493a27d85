"""Lists of a job are made as those of a service: by a column of attributes, re-ranked, explored."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from export.batch.answering import Answering, write_answers
from export.batch.job_settings import JobSettings, describe
from export.batch.recommendation_files import SCHEMA, RecommendationWriter, schema_of
from export.filters.stored_attributes import ItemAttributes, Numbers
from export.store.bundle_errors import BundleError
from tests.export.service.shop import IDS, Version
from tests.export.service.test_filters import write_attributes

HISTORIES = [[IDS[3], IDS[40]], [], [IDS[7]]]


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(tmp_path_factory):
    bundle = tmp_path_factory.mktemp("lists") / "b"
    Version(1).publish(bundle)
    write_attributes(bundle, 1)  # the brand goes by turns
    return bundle


def backwards(histories, items, scores):
    return [[-score for score in one] for one in scores]


def written(bundle, tmp_path, **settings):
    """The rows of an output, as a job writes it."""
    settings = JobSettings(k=4, **settings)
    (tmp_path / "h.jsonl").write_text(
        "".join(json.dumps({"user_id": f"u{n}", "history": one}) + "\n" for n, one in enumerate(HISTORIES))
    )
    answering = Answering.open(bundle, settings)
    schema = schema_of(answering.retriever.columns, settings)
    output = tmp_path / "out.parquet"
    with RecommendationWriter(output, overwrite=True, schema=schema) as writer:
        write_answers(answering, [tmp_path / "h.jsonl"], writer, lambda *_: None)
    return pl.read_parquet(output).to_dicts()


def test_by_default_an_output_is_as_it_was(bundle, tmp_path):
    rows = written(bundle, tmp_path)
    assert [*rows[0]] == [*SCHEMA]
    assert [one["items"] for one in rows] == [Version(1).items(one, 4) for one in HISTORIES]
    assert not {"category_column", "reranker", "reranker_ms", "explore", "explore_from"} & {
        *describe(JobSettings(k=4))
    }


def test_a_column_of_attributes_stands_for_the_file_of_categories(bundle, tmp_path):
    rows = written(bundle, tmp_path, category_cap=1, category_column="brand")
    for history, row in zip(HISTORIES, rows, strict=True):
        wide = Version(1).items(history, 20)
        if not history:
            assert row["items"] == wide[:4]
            continue
        first = wide[0]
        other = next(item for item in wide if IDS.index(item) % 2 != IDS.index(first) % 2)
        assert row["items"] == [first, other]
    with pytest.raises(BundleError, match=r"none of the attribute 'colour', .* there are 'brand'"):
        written(bundle, tmp_path, category_cap=1, category_column="colour")
    with pytest.raises(BundleError, match=r"one of kind numeric of the attribute 'price'"):
        written(bundle, tmp_path, category_cap=1, category_column="price")
    with pytest.raises(BundleError, match="need each other"):
        written(bundle, tmp_path, category_column="brand")


def test_a_reranker_and_exploration_are_told_in_columns(bundle, tmp_path):
    rows = written(bundle, tmp_path, reranker=f"{__name__}:backwards")
    assert [one["reranker"] for one in rows] == ["used", None, "used"]
    assert rows[0]["items"] == Version(1).items(HISTORIES[0], 20)[::-1][:4]
    rows = written(bundle, tmp_path, explore=0.5)
    for row in rows:
        assert len(row["explored"]) == 2
        assert set(row["explored"]) <= set(row["items"]) & set(IDS[15:])
    assert written(bundle, tmp_path, explore=0.5) == rows


def test_newer_attributes_without_the_column_are_not_taken_up(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "b")
    settings = JobSettings(k=4, category_cap=1, category_column="brand")
    retriever = Answering.open(tmp_path / "b", settings).retriever
    made = tmp_path / "b" / "item_attributes" / "2"
    ItemAttributes(IDS, {"price": Numbers("numeric", np.zeros(len(IDS)))}).save(made)
    with pytest.raises(BundleError, match="none of the attribute 'brand'"):
        retriever.rules.follow(retriever.catalogue)
    assert retriever.rules.attributes_number == 1
