"""The directory of a job: names, what may be mixed, which version answers."""

import errno
import json
import multiprocessing
import os
import shutil
import signal

import pytest

from export.batch.job_settings import JobSettings
from export.batch.processes import cores
from export.batch.shards import opened_job, place_shards
from export.store.bundle_errors import BundleError
from tests.export import toy
from tests.export.batch import failing

SETTINGS = {"k": 5, "exclude_seen": True}


def a_version(bundle, number, fingerprint):
    """A tower and an index as far as a job looks at them."""
    tower = bundle / "user_tower" / str(number)
    (tower / "assets.extra").mkdir(parents=True)
    sizes = {"items": 1, "dimension": 1, "vectors_per_user": 1, "max_history": 1}
    (tower / "assets.extra" / "tower.json").write_text(json.dumps({"version": fingerprint} | sizes))
    toy.sign_again(tower)
    index = bundle / "item_index" / fingerprint
    index.mkdir(parents=True, exist_ok=True)
    (index / "ids.txt").write_text(fingerprint)


def removed(bundle, number, fingerprint):
    shutil.rmtree(bundle / "user_tower" / str(number))
    shutil.rmtree(bundle / "item_index" / fingerprint)


@pytest.fixture
def bundle(tmp_path):
    a_version(tmp_path / "bundle", 1, "aaa")
    return tmp_path / "bundle"


@pytest.fixture
def inputs(tmp_path):
    paths = [tmp_path / "in" / name for name in ("one.jsonl", "two.jsonl")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def job(inputs, output, bundle, *, settings=SETTINGS, overwrite=False):
    shards = place_shards(inputs, output, ".parquet")
    return opened_job(output, shards, bundle=bundle, settings=settings, overwrite=overwrite)


def finish(shard):
    shard.path.write_text(f"of {shard.source.read_text()}")


def begun(inputs, output, bundle):
    """The first of two shards is finished."""
    with job(inputs, output, bundle) as one:
        finish(next(shard for shard in one.shards if shard.source == inputs[0]))


def files(directory):
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    return sorted(str(path.relative_to(directory)) for path in found)


@pytest.mark.parametrize(
    ("names", "shards"),
    [
        (["in/a.jsonl", "in/b.csv.gz"], ["a.parquet", "b.parquet"]),
        (["in/a.jsonl"], ["a.parquet"]),
        (["day=1/p.parquet", "day=2/p.parquet"], ["day=1/p.parquet", "day=2/p.parquet"]),
        (["x/p.csv", "x/y/p.csv"], ["p.parquet", "y/p.parquet"]),
        (["in/a.csv", "in/a.jsonl", "in/b.csv"], ["a.csv.parquet", "a.jsonl.parquet", "b.parquet"]),
        (["in/a.csv", "in/../in/a.csv"], ["a.parquet"]),
        (["in/v1.2.parquet"], ["v1.2.parquet"]),
    ],
)
def test_every_input_has_a_shard_of_its_own(tmp_path, names, shards):
    placed = place_shards([tmp_path / name for name in names], tmp_path / "out", ".parquet")
    assert [str(shard.path.relative_to(tmp_path / "out")) for shard in placed] == shards


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell")
def test_the_cores_are_those_that_a_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {3, 5})
    assert cores() == 2


def test_names_that_cannot_be_told_apart_and_inputs_as_outputs_are_refused(tmp_path):
    names = [tmp_path / "in" / name for name in ("a.csv", "a.jsonl", "a.csv.csv")]
    with pytest.raises(BundleError, match=r"would both become a\.csv\.parquet; rename one"):
        place_shards(names, tmp_path / "out", ".parquet")
    with pytest.raises(BundleError, match="would replace the input"):
        place_shards([tmp_path / "in" / "a.parquet"], tmp_path / "in", ".parquet")


def test_a_job_goes_on_with_what_is_left_and_leaves_only_shards_and_its_manifest(bundle, inputs, output):
    begun(inputs, output, bundle)
    assert files(output / ".retrieval" / "bundle") == [
        "item_index/aaa/ids.txt",
        "user_tower/1/assets.extra/tower.json",
    ]
    with job(inputs, output, bundle) as one:
        assert [shard.source for shard in one.left] == inputs[1:]
        finish(one.left[0])
    assert files(output) == [".retrieval/lock", ".retrieval/manifest.json", "one.parquet", "two.parquet"]
    with job(inputs, output, bundle) as one:
        assert one.left == []


def test_the_version_of_the_beginning_answers_to_the_end_whatever_is_published_or_removed(
    bundle, inputs, output
):
    begun(inputs, output, bundle)
    a_version(bundle, 2, "bbb")
    removed(bundle, 1, "aaa")
    with job(inputs, output, bundle) as one:
        assert (one.version, one.newest) == ("aaa", "bbb")
        assert (one.bundle / "item_index" / "aaa" / "ids.txt").read_text() == "aaa"
        finish(one.left[0])
    with (
        pytest.raises(BundleError, match=r"is of version aaa, and the newest version .* is bbb"),
        job(inputs, output, bundle),
    ):
        pass
    with job(inputs, output, bundle, overwrite=True) as one:
        assert (one.version, len(one.left)) == ("bbb", 2)


def test_a_shard_that_is_missing_later_is_made_by_the_same_version_or_not_at_all(bundle, inputs, output):
    with job(inputs, output, bundle) as one:
        for shard in one.shards:
            finish(shard)
    (output / "one.parquet").unlink()
    with job(inputs, output, bundle) as one:
        assert (one.version, len(one.left)) == ("aaa", 1)
        assert (one.bundle / "user_tower" / "1").is_dir()
    shutil.rmtree(output / ".retrieval" / "bundle")
    a_version(bundle, 2, "bbb")
    with (
        pytest.raises(BundleError, match=r"is of version aaa, and the newest version .* is bbb"),
        job(inputs, output, bundle),
    ):
        pass
    assert not (output / ".retrieval" / "bundle").exists()


def test_a_version_that_vanishes_while_it_is_taken_hold_of_gives_way_to_the_newer_one(
    bundle, inputs, output, monkeypatch
):
    copied = []
    link = os.link

    def vanishing(source, target):
        copied.append(target)
        if len(copied) == 2:  # the tower is linked, the index is next
            a_version(bundle, 2, "bbb")
            removed(bundle, 1, "aaa")
        link(source, target)

    monkeypatch.setattr(os, "link", vanishing)
    with job(inputs, output, bundle) as one:
        assert one.version == "bbb"
        assert files(one.bundle) == ["item_index/bbb/ids.txt", "user_tower/2/assets.extra/tower.json"]


def test_a_version_without_its_index_is_an_error_of_the_bundle_and_leaves_nothing(bundle, inputs, output):
    index = (bundle / "item_index" / "aaa").rename(bundle / "elsewhere")
    message = r"user_tower/1 answers version aaa, and .*item_index/aaa is missing\. Publish the run again"
    with pytest.raises(BundleError, match=message), job(inputs, output, bundle):
        pass
    assert not output.exists()
    index = index.rename(bundle / "item_index" / "aaa")
    begun(inputs, output, bundle)
    shutil.rmtree(output / ".retrieval" / "bundle")
    shutil.rmtree(index)
    before = files(output)
    with pytest.raises(BundleError, match=message), job(inputs, output, bundle):
        pass
    assert files(output) == before and not (output / ".retrieval" / "bundle.made").exists()


def test_what_fails_while_a_version_is_taken_hold_of_leaves_nothing(bundle, inputs, output, monkeypatch):
    def full(_source, _target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left on device"), job(inputs, output, bundle):
        pass
    assert not output.exists()


def test_shards_of_two_jobs_are_not_mixed(bundle, inputs, output, tmp_path):
    begun(inputs, output, bundle)
    before = files(output)

    def refused(message, paths=inputs, **change):
        with pytest.raises(BundleError, match=message), job(paths, output, bundle, **change):
            pass
        assert files(output) == before

    refused("begun with k 5, and now it is 6", settings=SETTINGS | {"k": 6})
    message = r"one\.parquet was made of .*one\.jsonl, which has changed since, or is not among the inputs"
    refused(message, [inputs[1]])
    inputs[0].write_text("another content")
    refused(message)
    with (
        job(inputs[1:], tmp_path / "busy", bundle),
        pytest.raises(BundleError, match="Another process is at work"),
        job(inputs[1:], tmp_path / "busy", bundle),
    ):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with (
        pytest.raises(BundleError, match="holds files of something else"),
        job(inputs, tmp_path / "other", bundle, overwrite=True),
    ):
        pass
    assert files(tmp_path / "other") == ["thesis.txt"]


def test_an_input_that_has_another_place_now_is_called_so(bundle, inputs, output):
    begun(inputs, output, bundle)
    more = inputs[0].parent.parent / "other" / "three.jsonl"
    more.parent.mkdir()
    more.write_text("")
    message = r"one\.parquet was made of .*one\.jsonl, which .* would have another place beside the others"
    with pytest.raises(BundleError, match=message), job([*inputs, more], output, bundle):
        pass


@pytest.mark.long
def test_a_process_that_is_killed_is_called_so_and_the_others_end(bundle, inputs, output, monkeypatch):
    from export.batch import processes

    monkeypatch.setattr(processes, "_answer", killed_at_once)
    with job(inputs, output, bundle) as one:
        with pytest.raises(RuntimeError, match="A process was killed from outside"):
            processes.answer_shards(one, JobSettings(k=1), jobs=2, threads=1, on_step=lambda step: None)
        assert not multiprocessing.active_children()


def killed_at_once(shard):
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_first_error_ends_all_processes(bundle, inputs, output, monkeypatch):
    from export.batch import processes

    monkeypatch.setattr(processes, "_answer", failing.fails_or_waits)
    with job(inputs, output, bundle) as one:
        with pytest.raises(BundleError, match="wanted another"):
            processes.answer_shards(one, JobSettings(k=1), jobs=2, threads=1, on_step=lambda step: None)
        assert not multiprocessing.active_children()


def test_an_input_that_is_not_answered_yet_may_be_mended_and_one_may_come(bundle, inputs, output):
    begun(inputs, output, bundle)
    inputs[1].write_text("mended")
    more = inputs[0].with_name("zero.jsonl")
    more.write_text("zero")
    with job([*inputs, more], output, bundle) as one:
        assert {shard.source for shard in one.left} == {inputs[1], more}
        finish(one.left[0])
    inputs[1].write_text("mended too late")
    with pytest.raises(BundleError, match="which has changed since"), job([*inputs, more], output, bundle):
        pass


def test_overwriting_removes_the_old_shards_and_nothing_else(bundle, inputs, output):
    begun(inputs, output, bundle)
    (output / "notes.txt").write_text("precious")
    with job([inputs[1]], output, bundle, settings={"k": 9}, overwrite=True) as one:
        assert files(output) == [
            ".retrieval/bundle/item_index/aaa/ids.txt",
            ".retrieval/bundle/user_tower/1/assets.extra/tower.json",
            ".retrieval/lock",
            ".retrieval/manifest.json",
            "notes.txt",
        ]
        finish(one.left[0])
    assert (output / "notes.txt").read_text() == "precious"


def test_a_file_that_the_job_did_not_make_is_no_shard_of_it(bundle, inputs, output):
    begun(inputs, output, bundle)
    more = inputs[0].with_name("zero.jsonl")
    more.write_text("zero")
    (output / "zero.parquet").write_text("precious")
    with pytest.raises(BundleError, match="is in the way"), job([*inputs, more], output, bundle):
        pass
    assert (output / "zero.parquet").read_text() == "precious"
    with pytest.raises(BundleError, match="is a file"), job(inputs, inputs[0], bundle):
        pass


@pytest.mark.parametrize("deep", ["day=1/hour=2/three.jsonl", "four.jsonl"])
def test_a_job_that_made_nothing_leaves_nothing(bundle, inputs, output, deep):
    more = inputs[0].parent / deep
    more.parent.mkdir(parents=True, exist_ok=True)
    more.write_text("")
    with pytest.raises(BundleError, match="bad row"), job([*inputs, more], output, bundle) as one:
        for shard in one.shards:
            shard.path.parent.mkdir(parents=True, exist_ok=True)
        raise BundleError("bad row")
    assert not output.exists()


def test_a_job_that_made_nothing_leaves_what_is_not_its_own(bundle, inputs, output):
    more = inputs[0].parent / "day=1" / "three.jsonl"
    more.parent.mkdir(parents=True)
    more.write_text("")
    with pytest.raises(BundleError, match="bad row"), job([*inputs, more], output, bundle):
        (output / "day=1").mkdir()
        (output / "day=1" / "thesis.txt").write_text("precious")
        raise BundleError("bad row")
    assert files(output) == ["day=1/thesis.txt"]
