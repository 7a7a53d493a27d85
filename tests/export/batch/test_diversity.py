"""Controllable aggregation: the twin searches every candidate at every choice."""

import gzip

import numpy as np
import pytest

from export.batch.diversity import diversified, diversify, read_categories
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation


def twin(scores, categories, k, weight):
    """Choose the candidate that adds most to sum(scores) - weight * pairs of one category."""
    left = sorted(enumerate(zip(scores, categories, strict=True)), key=lambda one: -one[1][0])
    chosen = []
    while left and len(chosen) < k:
        gains = [s - weight * sum(other == c for _, (_, other) in chosen) for _, (s, c) in left]
        chosen.append(left.pop(gains.index(max(gains))))
    return [place for place, _ in chosen]


@pytest.mark.parametrize("weight", [0.0, 0.125, 0.5, 100.0])
@pytest.mark.parametrize("k", [1, 7, 30])
def test_equals_the_twin(k, weight):
    rng = np.random.default_rng(k)
    for _ in range(20):
        categories = rng.integers(0, 4, size=25)
        scores = rng.integers(0, 20, size=25) / 8  # exact in binary, and some are equal
        want = twin(scores.tolist(), categories.tolist(), k, weight)
        assert diversified(scores, categories, k, weight).tolist() == want


def test_a_large_weight_takes_turns_and_none_keeps_the_order_of_scores():
    scores, categories = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 1, 2])
    assert diversified(scores, categories, 4, 10.0).tolist() == [0, 3, 1, 2]
    assert diversified(scores, categories, 3, 0.0).tolist() == [0, 1, 2]
    assert diversified(scores[:0], categories[:0], 3, 0.5).tolist() == []


def test_an_answer_is_cut_to_k_and_what_has_no_category_is_for_itself(tmp_path):
    (tmp_path / "categories.tsv").write_text("item\tcategory\textra\na\tjazz\t1\nb\tjazz\t2\nd\trock\t3\n")
    categories = read_categories(tmp_path / "categories.tsv")
    answer = Recommendation(["a", "b", "c", "d"], [4.0, 3.5, 3.4, 3.3], 1, False, "v")
    assert diversify(answer, categories, 3, 0.15) == Recommendation(
        ["a", "c", "b"], [4.0, 3.4, 3.5], 1, False, "v"
    )
    assert diversify(answer, categories, 3, 1.0).items == ["a", "c", "d"]
    assert diversify(answer, categories, 2, 0.0).items == ["a", "b"]
    popular = Recommendation(["a", "b", "d"], [0.0, 0.0, 0.0], 0, True, "v")
    assert diversify(popular, categories, 2, 1.0).items == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "categories"),
    [
        ("item.categories.tsv", "i1\tA, B\r\ni2\tC\r\n", {"i1": "A, B", "i2": "C"}),
        ("my.tsv.of.categories.csv", "i1,A\tB\ni2,C\n", {"i1": "A\tB", "i2": "C"}),
        ("categories.v1.TSV.gz", "i1\tA\n", {"i1": "A"}),
        ("categories.tsv", '"q" i2\tB\ni3"\t"C\n', {'"q" i2': "B", 'i3"': '"C'}),
        ("categories.csv", '"i,1",A\n', {"i,1": "A"}),
    ],
)
def test_the_last_extension_tells_tabs_from_commas(tmp_path, name, text, categories):
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_categories(tmp_path / name) == categories


def test_a_name_like_a_pattern_is_that_of_a_file(tmp_path):
    (tmp_path / "c[1].csv").write_text("a,of the file\n")
    (tmp_path / "c1.csv").write_text("a,of another\n")
    assert read_categories(tmp_path / "c[1].csv") == {"a": "of the file"}


def test_marks_within_a_file_of_joined_parts_and_items_without_a_category(tmp_path):
    parts = "\ufeffa,jazz\n\ufeffb,rock,more\nc\nd,\n,e\n\n"
    (tmp_path / "categories.csv").write_text(parts, encoding="utf-8")
    assert read_categories(tmp_path / "categories.csv") == {"a": "jazz", "b": "rock"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"a\nb\n", "has no item with a category; wanted two columns"),
        (b"", "has no item with a category"),
        ("a,jazz\n".encode("utf-16"), "is UTF-16; wanted UTF-8"),
        (b"a,jazz\rb,rock\r", "ends its lines with a bare CR"),
        (b"sep=,\na,jazz\n", "begins with a line 'sep='"),
        (b"a,jazz\nb,\xff\n", "line 2: not UTF-8"),
        (b'a,jazz\nb,"rock\n', "line 2: not readable as CSV"),
    ],
)
def test_categories_that_cannot_be_read(tmp_path, content, message):
    if content is not None:
        (tmp_path / "categories.csv").write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read_categories(tmp_path / "categories.csv")
