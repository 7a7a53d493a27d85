"""How scripts end: on a full disk, by a signal, and where help is after a flag that does not exist."""

import errno
import os
import signal
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


STOPPED = """
import os
from pipelines.command_line import command
def main():
    try:
        with command.stop_explained(lambda: "two of three are done"):
            os.kill(os.getpid(), {number})
            while True: pass
    finally:
        print("cleared away")
command.run(main, bad_input=(ValueError,))
"""


def run_code(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=scripts.ROOT,
        env=scripts.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (f"OSError({errno.ENOSPC}, {os.strerror(errno.ENOSPC)!r}, '/runs/a')", "/runs/a"),
        # As TensorFlow says it.
        ("RuntimeError('runs/a/ckpt-1.data; No space left on device [Op:SaveV2]')", "ckpt-1.data"),
    ],
)
def test_a_full_disk_is_called_so(error, place):
    done = run_code(SCRIPT.format(error=error))
    scripts.assert_refused(done, "the disk is full", place, "give the same command again", code=1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_is_told_in_one_line_and_ends_with_the_code_of_its_signal(number, code):
    done = run_code(STOPPED.format(number=int(number)))
    assert (done.returncode, done.stdout) == (code, "cleared away\n")
    assert done.stderr == f"stopped by {number.name}: two of three are done\n"


@pytest.mark.parametrize("script", ["pipelines/evaluate.py", "export/serve.py"])
def test_an_unknown_flag_names_the_script_that_was_called(script):
    done = scripts.run(script, "--no_such_flag=1")
    scripts.assert_refused(done, "no_such_flag", f"`python {scripts.ROOT / script} --help`")
