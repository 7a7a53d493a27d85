"""Scripts in processes of their own, and a small world for them to work on."""

import os
import subprocess
import sys
from pathlib import Path

from tests import worlds
from tests.pipelines import forked

ROOT = Path(__file__).parents[2]

# 120 items in 6 interests, some 15 events a user.
WORLD = {"num_items": 120, "num_interests": 6, "events_per_user": 15}

# Enough to learn a little within seconds, on 120 items.
SMALL = {
    "method": "item",
    "sampler": "full",
    "embedding_dim": 16,
    "batch_size": 256,
    "memory_size": 2000,
    "epochs": 2,
}

# One epoch of the base model, where a run is needed and no counterfactuals.
PLAIN = {name: value for name, value in SMALL.items() if name != "memory_size"}
PLAIN |= {"method": "base", "epochs": 1}


def command(script, *arguments):
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def environment():
    """As a user has it: Keras 2 is for the package to arrange."""
    return {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}


def run(script, *arguments, cwd=None, timeout=300):
    """Runs a script to its end, in a process that has imported TensorFlow before."""
    return forked.run(ROOT / script, *arguments, cwd=cwd, env=environment(), timeout=timeout)


def run_code(code, *arguments, timeout=300):
    """Runs `python -c` at the root in such a process."""
    return forked.run("-c", code, *arguments, cwd=ROOT, env=environment(), timeout=timeout)


def run_anew(script, *arguments, cwd=None, timeout=300):
    """Runs a script in a new Python, as a user does."""
    return subprocess.run(
        command(script, *arguments),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def flags(**values):
    return [f"--{name}={value}" for name, value in (SMALL | values).items()]


def write_world(directory, *, num_users=400, split_seed=0):
    """A dataset of `WORLD`."""
    return worlds.write_world(directory, num_users=num_users, split_seed=split_seed, **WORLD)


def assert_refused(done, *messages, code=2):
    """Ended with the code and with plain words."""
    assert done.returncode == code, done.stdout + done.stderr
    for message in messages:
        assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def files_of(directory):
    """Every file below, with what shows whether it was written again."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}
