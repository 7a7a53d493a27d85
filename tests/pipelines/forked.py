"""A script in a process that has imported TensorFlow before it begins.

A process of `CONTEXT` is forked from one that has done the imports and nothing else: what follows, the script
itself, is what a new Python would run, only that it starts in a tenth of a second instead of ten. For tests
that start a script dozens of times.
"""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["causerec_tf.records", "causerec_tf.training", "causerec_tf.warm_start"])


def start(script, *arguments, log):
    """Starts a script.

    Args:
      script: of the project, by its path below the root.
      arguments: of the script.
      log: file to which its output is appended.

    Returns:
      The process: `kill()`, `join()`, and `exitcode`, which is None as long as it runs.
    """
    process = CONTEXT.Process(target=_run, args=(str(ROOT / script), [*map(str, arguments)], str(log)))
    process.start()
    return process


def _run(script, arguments, log):
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
