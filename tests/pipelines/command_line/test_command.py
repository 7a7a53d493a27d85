"""How scripts end: what a full disk is called, and where help is after a flag that does not exist."""

import errno
import os
import subprocess
import sys

import pytest

from tests.pipelines import scripts

SCRIPT = """
import sys
from pipelines.command_line import command
def main():
    raise {error}
command.run(main, bad_input=(ValueError,))
"""


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (f"OSError({errno.ENOSPC}, {os.strerror(errno.ENOSPC)!r}, '/runs/a')", "/runs/a"),
        # As TensorFlow says it.
        ("RuntimeError('runs/a/ckpt-1.data; No space left on device [Op:SaveV2]')", "ckpt-1.data"),
    ],
)
def test_a_full_disk_is_called_so(error, place):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error)],
        cwd=scripts.ROOT,
        env=scripts.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    scripts.assert_refused(done, "the disk is full", place, "give the same command again", code=1)


@pytest.mark.parametrize("script", ["pipelines/evaluate.py", "export/serve.py"])
def test_an_unknown_flag_names_the_script_that_was_called(script):
    done = scripts.run(script, "--no_such_flag=1")
    scripts.assert_refused(done, "no_such_flag", f"`python {scripts.ROOT / script} --help`")
