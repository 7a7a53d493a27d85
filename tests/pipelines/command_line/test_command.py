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
    scripts.assert_refused(done, "the disk is full", place, "run the same command again", code=1)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_is_told_in_one_line_and_ends_with_the_code_of_its_signal(number, code):
    done = run_code(STOPPED.format(number=int(number)))
    assert (done.returncode, done.stdout) == (code, "cleared away\n")
    assert done.stderr == f"stopped by {number.name}: two of three are done\n"


@pytest.mark.parametrize("script", ["pipelines/evaluate.py", "export/serve.py"])
def test_an_unknown_flag_names_the_script_that_was_called(script):
    done = scripts.run(script, "--no_such_flag=1")
    scripts.assert_refused(done, "no_such_flag", f"`python {scripts.ROOT / script} --help`")


PRINTS = """
import os, sys
from pathlib import Path
from pipelines.command_line import command
def main():
    for number in range(20_000):
        print(f"dü {number}")
        print(f"dü {number}", file=sys.stderr)
    Path(os.environ["DONE"]).write_text("finished")
    print("dü is finished", "\\udcff")
command.run(main, bad_input=(ValueError,))
"""


def run_in_shell(line, place, **environment):
    """Runs a line of bash with the code above for `{}`; whether it was done stands in `place`."""
    (place / "prints.py").write_text(PRINTS, encoding="utf-8")
    more = {"PYTHONPATH": str(scripts.ROOT), "DONE": str(place / "done")} | environment
    return subprocess.run(
        ["bash", "-c", line.format(f"{sys.executable} {place / 'prints.py'}")],
        env=scripts.environment() | more,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("how", ["{} | head -1", "{} 2>&1 | true", "{} >&- 2>&-", "{} 2>&- | true"])
def test_the_work_goes_on_without_a_reader_and_ends_with_its_own_exit_code(tmp_path, how, unbuffered):
    done = run_in_shell(how + "; exit ${{PIPESTATUS[0]}}", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 0 and (tmp_path / "done").read_text() == "finished"


def test_what_the_terminal_cannot_show_is_printed_as_its_code(tmp_path):
    done = run_in_shell("{}", tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.endswith("d\\xfc 19999\nd\\xfc is finished \\udcff\n")
    assert done.stderr.endswith("d\\xfc 19999\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_no_reader_that_went(tmp_path):
    """What evaluate.py prints into a file is what it was called for."""
    done = run_in_shell("{} > /dev/full", tmp_path)
    assert done.returncode == 1 and "the disk is full" in done.stderr
