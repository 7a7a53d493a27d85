"""Trains the runs of a plan, each in a process of its own, some side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipelines.comparison.plan import PlannedRun

_TRAIN = Path(__file__).parents[1] / "train.py"
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 30.0  # between the signal to a process and the one that it cannot put off
_LINES_OF_A_FAILURE = 8


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error, the log of its process, and the last lines of that."""

    run: PlannedRun
    log: Path
    last_lines: str


@dataclass(frozen=True)
class _Training:
    """A run that is being trained, or was."""

    run: PlannedRun
    process: subprocess.Popen
    log: Path
    log_start: int
    started: float


def train_all(
    pending: Sequence[PlannedRun],
    *,
    test: bool,
    jobs: int,
    on_end: Callable[[PlannedRun, float], str],
) -> list[Failure]:
    """Trains every run, in order, `jobs` of them side by side on shares of the cores.

    One that fails does not keep the others from running. `on_end` is called with each that ended well and the
    seconds it took; what it returns is printed.

    Returns:
      The runs that failed.
    """
    waiting = list(pending)
    running: list[_Training] = []
    failures: list[Failure] = []
    bar = tqdm(desc="runs", total=len(pending), dynamic_ncols=True, disable=not pending)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), test=test, jobs=jobs))
                bar.set_postfix_str(f"training {', '.join(one.run.name for one in running)}")
            for training in [one for one in running if one.process.poll() is not None]:
                running.remove(training)
                if training.process.returncode == 0:
                    bar.write(on_end(training.run, time.monotonic() - training.started))
                else:
                    failures.append(_failure(training))
                    bar.write(f"{training.run.name}: failed, see {training.log}")
                bar.update()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        bar.close()
        for training in running:
            training.process.terminate()
        for training in running:
            _wait_or_kill(training.process)
    return failures


def _wait_or_kill(process: subprocess.Popen) -> None:
    """Ends a process for good; a run that is killed goes on from its last checkpoint all the same."""
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(run: PlannedRun, *, test: bool, jobs: int) -> _Training:
    """Starts the process of a run; what it prints is appended to a log beside the run's directory."""
    directory = Path(run.settings.run)
    directory.parent.mkdir(parents=True, exist_ok=True)
    log = directory.with_name(f"{directory.name}.log")
    script = _TRAIN.relative_to(Path.cwd()) if _TRAIN.is_relative_to(Path.cwd()) else _TRAIN
    arguments = [str(script), *run.flags, *([] if test else ["--notest"])]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if jobs > 1:
        threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
        environment |= {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    with log.open("ab") as file:
        start = file.tell()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return _Training(run, process, log, start, time.monotonic())


def _failure(training: _Training) -> Failure:
    # A progress bar on its way to a file is one line with carriage returns: its end is what counts.
    output = training.log.read_bytes()[training.log_start :].decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2] for line in output.splitlines()]
    last = [line for line in lines if line.strip()][-_LINES_OF_A_FAILURE:]
    return Failure(training.run, training.log, "\n".join(last))
