"""Categories of items from a file, whatever its format."""

import gzip

import pytest

from export.lists.categories import read_categories
from export.store.bundle_errors import BundleError


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
