"""One small dataset and one trained run for all tests of the scripts that need them."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from tests.made_once import made_once
from tests.pipelines import scripts


@dataclasses.dataclass(frozen=True)
class Trained:
    dataset: Path
    flagfile: Path
    run: Path
    done: subprocess.CompletedProcess


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run by a flagfile. Look at it; to change something, copy it."""
    return made_once(tmp_path_factory, "trained", _train)


def _train(place):
    scripts.write_world(place / "world")
    run = place / "runs" / "small"
    flagfile = place / "small.flags"
    lines = scripts.flags(dataset=place / "world", run=run)
    flagfile.write_text("# a small run\n" + "".join(line + "\n" for line in lines))
    done = scripts.run("pipelines/train.py", f"--flagfile={flagfile}")
    assert done.returncode == 0, done.stderr
    return Trained(place / "world", flagfile, run, done)
