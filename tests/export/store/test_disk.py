"""What a full disk is called. /dev/full has the real errors: whatever is written there finds no space."""

import errno
import os
import tempfile
from pathlib import Path

import polars as pl
import pytest

from export.batch import recommendation_files
from export.batch.recommendation_files import RecommendationWriter
from export.batch.shards import opened_job, place_shards
from export.store.disk import full_disk_named
from export.store.housekeeping import locked
from export.towers.answers import Recommendation
from tests.export.batch.test_shards import a_version

FULL = Path("/dev/full")
ANSWER = Recommendation(["a"], [1.5], 0, False, "v")


def beam_like(text):
    raise RuntimeError(text)


needs_dev_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def message(place):
    return rf"No space left on device: '{place}'$"


@needs_dev_full
def test_a_file_that_cannot_be_written_on_is_named(tmp_path):
    for write in (
        lambda: FULL.write_text("a"),
        lambda: pl.DataFrame({"a": [1]}).write_parquet(FULL),  # an error of its own
        lambda: beam_like("OSError: [Errno 28] No space left on device [while running 'write/Write']"),
    ):
        with pytest.raises(OSError, match=message(tmp_path / "b")), full_disk_named(tmp_path / "b"):
            write()


@needs_dev_full
@pytest.mark.parametrize(
    "error",
    [
        # As ScaNN and NumPy have it.
        RuntimeError("Failed to extract SingleMachineFactoryOptions: I/O error"),
        OSError("100000 requested and 25584 written"),
    ],
)
def test_an_error_that_does_not_say_so_is_told_from_others_by_a_trial(tmp_path, monkeypatch, error):
    with pytest.raises(type(error), match=r"error|requested"), full_disk_named(tmp_path):
        raise error

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: FULL.open("wb"))
    with pytest.raises(OSError, match=message(tmp_path / "a")), full_disk_named(tmp_path / "a"):
        raise error
    with pytest.raises(ZeroDivisionError), full_disk_named(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_what_names_a_file_already_stays(tmp_path):
    for error in (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "elsewhere")),
        TypeError(f"{tmp_path}/a; No space left on device"),
    ):
        with pytest.raises(type(error)) as caught, full_disk_named(tmp_path):
            raise error
        assert caught.value is error


@needs_dev_full
@pytest.mark.parametrize(
    ("name", "full"),
    [("o.jsonl", "rows.jsonl"), ("o.parquet", "00000000.parquet"), ("o.parquet", "at the end")],
)
def test_recommendations_on_a_full_disk(tmp_path, monkeypatch, name, full):
    if full == "at the end":
        monkeypatch.setattr(recommendation_files, "to_disk", lambda _path: FULL.write_text("a"))
    with (
        pytest.raises(OSError, match=message(tmp_path / name)),
        RecommendationWriter(tmp_path / name, overwrite=False) as writer,
    ):
        if full != "at the end":
            (writer._beside / full).symlink_to(FULL)
        writer.write(["u"], [ANSWER])
    assert not list(tmp_path.iterdir())


@needs_dev_full
def test_the_manifest_of_a_job_on_a_full_disk(tmp_path):
    a_version(tmp_path / "bundle", 1, "aaa")
    (tmp_path / "h.jsonl").write_text("")
    shards = place_shards([tmp_path / "h.jsonl"], tmp_path / "out", ".jsonl")
    made = tmp_path / "out" / ".retrieval" / "manifest.json.made"
    made.parent.mkdir(parents=True)
    made.symlink_to(FULL)
    with (
        pytest.raises(OSError, match=message(made)),
        opened_job(tmp_path / "out", shards, bundle=tmp_path / "bundle", settings={"k": 5}, overwrite=False),
    ):
        pass


def test_a_publication_on_a_full_disk_names_the_bundle(tmp_path):
    with pytest.raises(OSError, match=message(tmp_path / "b")), locked(tmp_path / "b"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
