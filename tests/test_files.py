"""Files and directories come whole or not at all, whatever interrupts their writing."""

import errno
import json
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
        assert beside.parent == place.parent and beside != place
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
            assert beside.parent == target.parent
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


def test_a_link_that_was_moved_away_does_not_end_every_later_run(tmp_path):
    directory_of(tmp_path / "disk", "what it points to")
    directory_of(tmp_path / "made", "old")
    (tmp_path / ".made.old-1").symlink_to("disk")
    directory_of(tmp_path / "made", "new", overwrite=True)
    assert names(tmp_path) == ["disk", "made"]
    assert (tmp_path / "disk" / "kind.json").read_text() == "what it points to"


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
if moment == "moving":
    rename = Path.rename
    Path.rename = lambda path, to: killed() if ".partial-" in path.name else rename(path, to)
with files.directory_written_beside(place, marker="kind.json", overwrite=True) as beside:
    (beside / "kind.json").write_text("half")
    if moment == "writing":
        killed()
"""


@pytest.mark.parametrize("moment", ["writing", "moving"])
def test_what_a_kill_left_is_cleared_by_the_next_and_what_it_took_away_comes_back(tmp_path, moment):
    place = tmp_path / "made"
    directory_of(place, "old")
    directory_of(tmp_path / "made.partial-1", "another's")
    done = subprocess.run([sys.executable, "-c", KILLED, str(place), moment], check=False)
    assert done.returncode == -signal.SIGKILL and len(names(tmp_path)) == 3
    with pytest.raises(InputError, match="exists already"):
        directory_of(place, "new")
    assert names(tmp_path) == ["made", "made.partial-1"]
    assert (place / "kind.json").read_text() == "old"


def test_the_work_of_a_process_that_lives_is_left_alone(tmp_path):
    place = tmp_path / "made"
    with (
        pytest.raises(InputError, match="exists already"),
        files.directory_written_beside(place, marker="kind.json", overwrite=False) as beside,
    ):
        subprocess.run([sys.executable, "-c", KILLED, str(place), "never"], check=True)
        assert beside.is_dir() and (place / "kind.json").read_text() == "half"
    assert names(tmp_path) == ["made"]


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_file_leaves_nothing_and_spoils_nothing(tmp_path, there):
    path = tmp_path / "page.md"
    if there:
        files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.file_written_beside(path) as beside:
        assert beside.parent == tmp_path and beside != path
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
