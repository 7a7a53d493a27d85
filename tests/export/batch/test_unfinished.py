"""What a job gathers before its output is whole: one at a time, and nothing of a killed one stays."""

import fcntl
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.batch.recommendation_files import RecommendationWriter
from export.batch.unfinished import unfinished_beside
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation

ROOT = Path(__file__).parents[3]
ANSWER = Recommendation(["a"], [1.5], 0, False, "v")

KILLED = """
import os, signal, sys
from pathlib import Path
from export.towers.answers import Recommendation
from export.batch.recommendation_files import RecommendationWriter

with RecommendationWriter(Path(sys.argv[1]), overwrite=False) as writer:
    writer.write(["u"], [Recommendation(["a"], [1.5], 0, False, "v")])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_second_job_for_the_same_output_is_refused_and_the_first_loses_nothing(tmp_path):
    # In one process, as if two containers had each a process of this number.
    with unfinished_beside(tmp_path / "out") as work:
        (work / "shard").write_text("of the first")
        with (
            pytest.raises(BundleError, match=r"Another process is at work on .*out; wait until"),
            unfinished_beside(tmp_path / "out"),
        ):
            pass
        assert (work / "shard").read_text() == "of the first"
        with unfinished_beside(tmp_path / "another") as other:
            assert other.parent.parent == tmp_path and not list(other.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_lock_that_its_owner_took_away_is_no_lock(tmp_path, monkeypatch):
    flock = fcntl.flock

    def overtaken(file, how):
        """What another process does between the opening of the lock and its taking: it ends."""
        monkeypatch.setattr(fcntl, "flock", flock)
        shutil.rmtree(tmp_path / ".out.unfinished")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with unfinished_beside(tmp_path / "out") as work:
        (work / "shard").write_text("of the first")
        with (
            pytest.raises(BundleError, match="Another process is at work"),
            unfinished_beside(tmp_path / "out"),
        ):
            pass
        assert (work / "shard").read_text() == "of the first"
    assert not list(tmp_path.iterdir())


def test_nobody_begins_before_the_other_has_cleared_away(tmp_path, monkeypatch):
    rmtree, seen = shutil.rmtree, []

    def watched(path, **arguments):
        rmtree(path, **arguments)
        with (
            pytest.raises(BundleError, match="Another process is at work"),
            unfinished_beside(tmp_path / "out"),
        ):
            pass
        seen.append(path.name)

    with unfinished_beside(tmp_path / "out"):
        monkeypatch.setattr(shutil, "rmtree", watched)
    assert seen == ["work"]
    assert not list(tmp_path.iterdir())


def test_what_a_killed_job_left_goes_with_the_next_for_the_same_output(tmp_path):
    path = tmp_path / "top.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [left.name for left in tmp_path.rglob("rows.jsonl")] == ["rows.jsonl"] and not path.exists()
    with RecommendationWriter(path, overwrite=False) as writer:
        assert not list(tmp_path.rglob("rows.jsonl"))
        writer.write(["u"], [ANSWER])
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "top.jsonl"
    first, second = (RecommendationWriter(path, overwrite=False) for _ in range(2))
    with first:
        first.write(["u"], [ANSWER])
    written = path.read_bytes()
    with pytest.raises(BundleError, match=r"top\.jsonl exists; give another name"), second:
        pass
    assert path.read_bytes() == written and list(tmp_path.iterdir()) == [path]
