"""Scripts in processes that have imported TensorFlow before they begin.

A process of `CONTEXT` is forked from one that has done the imports and nothing else: what follows, the
script itself, is what a new Python would run, only that it starts in a tenth of a second instead of several.
What the imports themselves do is the matter of tests/test_package.py and tests/test_wheel.py, which begin
anew.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["causerec_tf.records", "causerec_tf.training", "causerec_tf.warm_start"])


def start(script, *arguments, log, errors=None):
    """Starts a script.

    Args:
      script: of the project, by its path below the root.
      arguments: of the script.
      log: file to which its output is appended.
      errors: another one for its standard error.

    Returns:
      The process: `kill()`, `join()`, and `exitcode`, which is None as long as it runs.
    """
    return _start(
        [str(ROOT / script), *map(str, arguments)], (log, errors or log), str(Path.cwd()), dict(os.environ)
    )


def run(*command, cwd, env, timeout):
    """Runs `script, *arguments`, or `"-c", code, *arguments`, to its end.

    Returns:
      What `subprocess.run` would, with text.

    Raises:
      subprocess.TimeoutExpired: it took longer than `timeout` seconds, and is killed.
    """
    command = [*map(str, command)]
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place, name) for name in ("stdout", "stderr")]
        process = _start(command, streams, str(cwd or Path.cwd()), dict(env))
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        texts = [stream.read_text(encoding="utf-8") for stream in streams]
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _start(command, streams, cwd, environment):
    process = CONTEXT.Process(target=_run, args=(command, [*map(str, streams)], cwd, environment))
    process.start()
    return process


def _run(command, streams, cwd, environment):
    """In the new process: what Python does with such a command line."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests are run by nohup
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, stream in enumerate(streams, start=1):
        file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    first, *rest = command
    if first == "-c":
        code, *arguments = rest
        sys.argv = ["-c", *arguments]
        sys.path.insert(0, "")
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")
