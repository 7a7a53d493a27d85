"""The updating command in processes of its own."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from export.index.update_files import read_deletes, read_upserts
from export.store.bundle_errors import BundleError
from tests.export import toy
from tests.pipelines import scripts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    from tests.export.publishing.test_publish import put

    bundle = tmp_path_factory.mktemp("published") / "b"
    put(bundle)
    return bundle


@pytest.fixture
def bundle(published, tmp_path):
    shutil.copytree(published, tmp_path / "b")
    return tmp_path / "b"


def run(*arguments):
    return scripts.run("export/update_index.py", *arguments, cwd=ROOT)


def test_files_are_applied_and_what_was_measured_is_printed(bundle, tmp_path):
    from export.retriever import Retriever

    vectors = np.eye(6)[:2] * 100
    rows = [{"id": "n1", "vector": vectors[0].tolist()}, {"id": 7, "vector": vectors[1].tolist()}]
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "d.txt").write_text("é\n日本\n")
    flags = [f"--bundle={bundle}", f"--upsert={tmp_path}/u.jsonl", f"--delete={tmp_path}/d.txt"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert "2 items to upsert (2 new), 2 to delete" in done.stdout
    assert "30 items, recall@30 against exact search 1.0000" in done.stdout
    assert "2 searched beside the index, 2 withdrawn" in done.stdout
    assert "rebuild advised: 13.3% of the items changed, more than 5%" in done.stdout
    assert f"updated: {bundle}/user_tower/2" in done.stdout
    items = Retriever.open(bundle).recommend([["é", " x "]], 30)[0].items
    assert {"n1", "7"} < set(items) and not {"é", "日本"} & set(items)
    # Spelt otherwise, an id is a new item's: the count tells.
    rows[0]["id"] = "N1"
    (tmp_path / "u.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(*flags[:2], "--dry_run")
    assert "2 items to upsert (1 new), 0 to delete" in done.stdout, done.stderr


@pytest.mark.long
def test_a_repeated_command_changes_nothing_and_a_rebuild_folds_the_changes_in(bundle, tmp_path):
    (tmp_path / "d.txt").write_text("é\n日本\n")
    flags = [f"--bundle={bundle}", f"--delete={tmp_path}/d.txt"]
    assert run(*flags).returncode == 0
    assert "was made by this update already" in run(*flags).stdout
    rebuilt = run(f"--bundle={bundle}", "--rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert f"rebuilt: {bundle}/user_tower/3" in rebuilt.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give --upsert=FILE, --delete=FILE or --rebuild"),
        (["--upsert=nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        pytest.param(["--rebuild", "--bundle=nowhere"], "is not a bundle", marks=pytest.mark.long),
    ],
)
def test_bad_input_ends_with_2_and_changes_nothing(bundle, flags, message):
    before = toy.files_of(bundle)
    done = run(f"--bundle={bundle}", *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert toy.files_of(bundle) == before
    assert not (ROOT / "nowhere").exists()


def test_parquet_and_json_lines_read_alike(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    frame = pl.DataFrame({"id": [5, 6, 7], "vector": vectors, "name": ["a", None, "c"]})
    frame.write_parquet(tmp_path / "u.parquet")
    rows = zip([5, 6, 7], vectors.tolist(), ["a", None, "c"], strict=True)
    lines = [json.dumps({"id": i, "vector": v, "name": n}) for i, v, n in rows]
    (tmp_path / "u.jsonl").write_text("\n".join(lines))
    for name in ("u.parquet", "u.jsonl"):
        upserts = read_upserts(tmp_path / name)
        assert upserts["upsert_ids"] == ["5", "6", "7"]
        assert upserts["upsert_names"] == ["a", None, "c"]
        np.testing.assert_array_equal(upserts["upsert_vectors"], vectors)


def test_a_name_like_a_pattern_is_that_of_a_file(tmp_path):
    for name, item in (("u[1].parquet", "of the file"), ("u1.parquet", "of another")):
        pl.DataFrame({"id": [item], "vector": [[1.0]]}).write_parquet(tmp_path / name)
    assert read_upserts(tmp_path / "u[1].parquet")["upsert_ids"] == ["of the file"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"id": "b"}', "line 2: wanted an id and a vector"),
        ('{"id": 1.5, "vector": [1, 2]}', "line 2: 1.5 is not an id"),
        ('{"id": "b", "vector": "1 2"}', "line 2: the vector is '1 2'; wanted a list of numbers"),
        ('{"id": "b", "vector": [1, null]}', "wanted a list of numbers"),
        (
            f'{{"id": "b", "vector": [1, 1{"0" * 400}]}}',
            "line 2: the vector holds a number that is too large",
        ),
        ('{"id": "b", "vector": [1]}', "line 2: the vector has 1 values, the first has 2"),
        ('{"id": "b", "vector": [1, 2], "name": 3}', "line 2: the name is 3"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line, message):
    (tmp_path / "u.jsonl").write_text('{"id": "a", "vector": [1, 2]}\n' + line)
    with pytest.raises(BundleError, match=message):
        read_upserts(tmp_path / "u.jsonl")


def test_empty_and_foreign_files_are_refused(tmp_path):
    for name in ("u.jsonl", "d.txt", "u.csv"):
        (tmp_path / name).write_text("")
    with pytest.raises(BundleError, match="holds no items"):
        read_upserts(tmp_path / "u.jsonl")
    with pytest.raises(BundleError, match=r"neither \.jsonl nor \.parquet"):
        read_upserts(tmp_path / "u.csv")
    with pytest.raises(BundleError, match="holds no ids"):
        read_deletes(tmp_path / "d.txt")


def test_files_of_another_system_are_read_as_ours(tmp_path):
    (tmp_path / "d.txt").write_bytes("\ufeffa\r\n\r\nb c\r\n".encode())
    assert read_deletes(tmp_path / "d.txt") == ["a", "b c"]
    (tmp_path / "u.jsonl").write_bytes('\ufeff{"id": "x", "vector": [1, 2]}\r\n\r\n'.encode())
    assert read_upserts(tmp_path / "u.jsonl")["upsert_ids"] == ["x"]
    (tmp_path / "d.txt").write_bytes("\ufeffa\n\ufeffb\n".encode())  # two files that were joined
    assert read_deletes(tmp_path / "d.txt") == ["a", "b"]
    (tmp_path / "d.txt").write_bytes("a\nb\n".encode("utf-16"))
    with pytest.raises(BundleError, match="is UTF-16; wanted UTF-8"):
        read_deletes(tmp_path / "d.txt")
    (tmp_path / "d.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(BundleError, match="cannot be read"):
        read_deletes(tmp_path / "d.txt")
