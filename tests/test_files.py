"""Files and directories come whole or not at all, whatever interrupts their writing."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from causerec_tf import files
from causerec_tf.errors import InputError


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def directory_of(place, text, *, overwrite=False):
    with files.directory_written_beside(place, marker="kind.json", overwrite=overwrite) as beside:
        assert beside.is_relative_to(place.parent) and beside != place
        (beside / "kind.json").write_text(text)


def test_a_directory_appears_whole(tmp_path):
    directory_of(tmp_path / "a" / "made", "new")
    assert names(tmp_path / "a") == ["made"]
    assert (tmp_path / "a" / "made" / "kind.json").read_text() == "new"


def test_a_directory_is_replaced_only_if_asked_and_only_one_of_its_kind(tmp_path):
    directory_of(tmp_path / "made", "old")
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        directory_of(tmp_path / "made", "new")
    directory_of(tmp_path / "made", "new", overwrite=True)
    assert names(tmp_path) == ["made"]
    assert (tmp_path / "made" / "kind.json").read_text() == "new"
    (tmp_path / "made" / "kind.json").unlink()
    with pytest.raises(InputError, match=r"has no kind\.json, so it is nothing that --overwrite replaces"):
        directory_of(tmp_path / "made", "new", overwrite=True)


def test_where_a_link_points_to_is_written_and_the_link_stays(tmp_path):
    place, target = tmp_path / "link", tmp_path / "disk" / "made"
    place.symlink_to(target)
    directory_of(target, "old")
    for text in ("new", "newer"):
        with files.directory_written_beside(place, marker="kind.json", overwrite=True) as beside:
            assert beside.is_relative_to(target.parent)
            (beside / "kind.json").write_text(text)
        assert place.is_symlink() and (target / "kind.json").read_text() == text
        assert names(tmp_path) == ["disk", "link"] and names(target.parent) == ["made"]
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        directory_of(place, "new")
    (target / "kind.json").unlink()
    target.rmdir()
    with files.directory_written_beside(place, marker="kind.json", overwrite=False) as beside:
        (beside / "kind.json").write_text("from nothing")
    assert place.is_symlink() and (place / "kind.json").read_text() == "from nothing"


def test_a_file_is_replaced_only_if_asked_and_a_directory_never(tmp_path):
    place = tmp_path / "record.json"
    files.check_free(place, "--output", overwrite=False)
    place.write_text("{}")
    files.check_free(place, "--output", overwrite=True)
    with pytest.raises(InputError, match=r"exists: choose another --output, or add --overwrite"):
        files.check_free(place, "--output", overwrite=False)
    with pytest.raises(InputError, match=r"--output=\S* is a directory: give the name of a file"):
        files.check_free(tmp_path, "--output", overwrite=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_told_by_the_file_or_directory_that_was_to_be_there(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, files.file_written_beside(tmp_path / "a"):
        Path("/dev/full").write_text("new")  # the operating system's error names no file
    assert caught.value.filename == str(tmp_path / "a")
    with (
        pytest.raises(OSError, match="No space left") as caught,
        files.directory_written_beside(tmp_path / "made", marker="kind.json", overwrite=False),
    ):
        Path("/dev/full").write_text("new")
    assert caught.value.filename == str(tmp_path / "made")
    with pytest.raises(OSError, match="gone") as caught, files.file_written_beside(tmp_path / "a"):
        raise OSError(errno.EPIPE, "gone")
    assert caught.value.filename is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_directory_leaves_nothing_and_spoils_nothing(tmp_path, overwrite):
    place = tmp_path / "made"
    if overwrite:
        directory_of(place, "old")
    with (
        pytest.raises(KeyboardInterrupt),
        files.directory_written_beside(place, marker="kind.json", overwrite=overwrite) as beside,
    ):
        (beside / "kind.json").write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == (["made"] if overwrite else [])
    assert not overwrite or (place / "kind.json").read_text() == "old"


KILLED = """
import os, signal, sys
from pathlib import Path
from causerec_tf import files

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

place, moment = Path(sys.argv[1]), sys.argv[2]
exchanged, rename = files._exchanged, Path.rename
if moment == "exchanged":
    files._exchanged = lambda *both: exchanged(*both) and killed()
elif moment == "between two renames":
    files._exchanged = lambda *both: False
    Path.rename = lambda path, to: killed() if path.name == "new" else rename(path, to)
if moment == "a file":
    with files.file_written_beside(place) as beside:
        beside.write_text("half")
        killed()
with files.directory_written_beside(place, marker="kind.json", overwrite=True) as beside:
    (beside / "kind.json").write_text("new")
    if moment == "writing":
        killed()
"""


def kill(place, moment):
    done = subprocess.run([sys.executable, "-c", KILLED, str(place), moment], check=False)
    assert done.returncode == -signal.SIGKILL and len(list(place.parent.glob(".*.unfinished"))) == 1


@pytest.mark.parametrize(
    ("moment", "meanwhile"),
    [("writing", "old"), ("exchanged", "new"), ("between two renames", None)],
)
def test_killed_at_any_moment_it_is_the_old_or_the_new_and_the_next_clears_what_is_left(
    tmp_path, moment, meanwhile
):
    place = tmp_path / "made"
    directory_of(place, "old")
    kill(place, moment)
    assert place.exists() == (meanwhile is not None)
    if meanwhile:
        assert (place / "kind.json").read_text() == meanwhile
    with pytest.raises(InputError, match="exists already"):
        directory_of(place, "newest")
    assert names(tmp_path) == ["made"]
    assert (place / "kind.json").read_text() == (meanwhile or "old")


def test_what_was_taken_away_comes_back_before_anything_is_removed(tmp_path, monkeypatch):
    place = tmp_path / "made"
    directory_of(place, "old")
    kill(place, "between two renames")

    def nothing_is_lost(path, **_):
        assert (place / "kind.json").read_text() == "old"
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", nothing_is_lost)
    with pytest.raises(KeyboardInterrupt):
        directory_of(place, "newest", overwrite=True)
    assert (place / "kind.json").read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two directories in one step")
def test_a_reader_finds_a_directory_at_every_moment(tmp_path, monkeypatch):
    place, seen = tmp_path / "made", []
    directory_of(place, "old")
    for name in ("rename", "mkdir", "unlink", "rmdir"):
        real = getattr(Path, name)

        def watched(path, *arguments, real=real, **named):
            seen.append((place / "kind.json").read_text())
            real(path, *arguments, **named)
            seen.append((place / "kind.json").read_text())

        monkeypatch.setattr(Path, name, watched)
    directory_of(place, "new", overwrite=True)
    assert sorted(set(seen)) == ["new", "old"] and seen == sorted(seen, reverse=True)


def test_without_that_step_a_failing_rename_puts_back_what_was_there(tmp_path, monkeypatch):
    place, rename = tmp_path / "made", Path.rename
    directory_of(place, "old")

    def failing(path, to):
        if path.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, to)

    monkeypatch.setattr(files, "_exchanged", lambda *both: False)
    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"):
        directory_of(place, "new", overwrite=True)
    assert names(tmp_path) == ["made"] and (place / "kind.json").read_text() == "old"
    monkeypatch.setattr(Path, "rename", rename)
    directory_of(place, "new", overwrite=True)
    assert names(tmp_path) == ["made"] and (place / "kind.json").read_text() == "new"


def test_a_second_writer_is_told_and_the_first_loses_nothing(tmp_path):
    busy = r"another process is writing \S*(made|a\.json)\. Wait until it has ended"
    with files.directory_written_beside(tmp_path / "made", marker="kind.json", overwrite=False) as beside:
        (beside / "kind.json").write_text("of the first")
        with pytest.raises(InputError, match=busy):
            directory_of(tmp_path / "made", "of the second", overwrite=True)
        directory_of(tmp_path / "another", "is free")
    with files.file_written_beside(tmp_path / "a.json") as beside:
        beside.write_text("of the first")
        with pytest.raises(InputError, match=busy):
            files.write_text(tmp_path / "a.json", "of the second")
        files.write_text(tmp_path / "b.json", "is free")
    assert names(tmp_path) == ["a.json", "another", "b.json", "made"]
    assert (tmp_path / "made" / "kind.json").read_text() == "of the first"
    assert (tmp_path / "a.json").read_text() == "of the first"


def test_many_processes_that_write_one_file_leave_it_whole(tmp_path):
    """Each is told, or has written all of it."""
    code = """
import sys
from pathlib import Path
from causerec_tf import files
from causerec_tf.errors import InputError

for _ in range(200):
    try:
        files.write_text(Path(sys.argv[1]), sys.argv[2] * 10_000)
    except InputError as error:
        assert "another process is writing" in str(error), error
"""
    path = tmp_path / "record.json"
    texts = ["a", "bb", "ccc"]
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), text]) for text in texts]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert path.read_text() in {text * 10_000 for text in texts}
    assert names(tmp_path) == ["record.json"]


def test_what_a_killed_writer_of_a_file_left_goes_with_the_next(tmp_path):
    path = tmp_path / "page.md"
    kill(path, "a file")
    files.write_text(path, "whole")
    assert names(tmp_path) == ["page.md"] and path.read_text() == "whole"


def test_a_lock_that_its_owner_took_away_is_no_lock(tmp_path, monkeypatch):
    flock = fcntl.flock

    def overtaken(file, how):
        """What another process does between the opening of the lock and its taking: it ends."""
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(tmp_path / ".page.md.unfinished")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with files.file_written_beside(tmp_path / "page.md") as beside:
        beside.write_text("whole")
        with pytest.raises(InputError, match="another process is writing"):
            files.write_text(tmp_path / "page.md", "of another")
    assert names(tmp_path) == ["page.md"]


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_file_leaves_nothing_and_spoils_nothing(tmp_path, there):
    path = tmp_path / "page.md"
    if there:
        files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.file_written_beside(path) as beside:
        assert beside.is_relative_to(tmp_path) and beside != path
        beside.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == (["page.md"] if there else [])
    assert not there or path.read_text() == "old"


def test_json_comes_back_and_what_is_not_finite_does_not_go_in(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"name": "é", "value": 0.5})
    assert files.read_json(path) == {"name": "é", "value": 0.5} == json.loads(path.read_text())
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"value": float("nan")})
    assert files.read_json(path)["value"] == 0.5 and names(tmp_path) == ["metrics.json"]
    path.write_text("[1]")
    with pytest.raises(InputError, match="holds list, wanted a JSON object"):
        files.read_json(path)
    for content in ("{", None):
        path.write_text(content) if content else path.unlink()
        with pytest.raises(InputError, match="cannot be read"):
            files.read_json(path)


def test_arrays_come_back_without_pickle(tmp_path):
    path = tmp_path / "users.npz"
    files.write_arrays(path, {"recall": np.arange(3, dtype=np.float32)})
    with np.load(path, allow_pickle=False) as loaded:
        assert loaded["recall"].dtype == np.float32 and loaded["recall"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        files.write_arrays(path, {"recall": np.array([{}], object)})
    assert names(tmp_path) == ["users.npz"]
    with np.load(path) as loaded:
        assert loaded["recall"].tolist() == [0, 1, 2]
