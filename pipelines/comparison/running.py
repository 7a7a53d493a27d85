"""Trains the runs of a plan, each in a process of its own, some side by side."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from pipelines.comparison.plan import PlannedRun

_TRAIN = Path(__file__).parents[1] / "train.py"
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_END = 30.0  # between the signal to a process and the one that it cannot put off
_LINES_OF_A_FAILURE = 8
# As pipelines/command_line/progress.py prints it: above a bar, that is behind the carriage return that
# wiped the bar away.
_EPOCH = re.compile(r"(?:^|\r)epoch (\d+)/(\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error.

    Attributes:
      run: which.
      log: of its process.
      last_lines: of the log.
    """

    run: PlannedRun
    log: Path
    last_lines: str


@dataclass
class _Training:
    """A run that is being trained, or was."""

    run: PlannedRun
    process: subprocess.Popen
    log: Path
    log_start: int
    started: float = field(default_factory=time.monotonic)
    epochs_here: int = 0
    epochs_left: int = field(init=False)

    def __post_init__(self):
        self.epochs_left = self.run.settings.epochs

    def look(self) -> None:
        """Reads from the log how many epochs are finished."""
        if found := _EPOCH.findall(self.output()):
            self.epochs_here = len(found)
            self.epochs_left = self.run.settings.epochs - int(found[-1][0])

    def output(self) -> str:
        """What this process wrote to the log so far."""
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", errors="replace")


def train_all(
    pending: Sequence[PlannedRun],
    *,
    test: bool,
    jobs: int,
    on_end: Callable[[PlannedRun, float], str],
) -> list[Failure]:
    """Trains every run, in order; one that fails does not keep the others from running.

    Args:
      pending: the runs.
      test: whether they measure the test users.
      jobs: processes side by side, which share the cores.
      on_end: called with each run that ended well and the seconds it took; what it returns is printed.

    Returns:
      The runs that failed.
    """
    waiting = list(pending)
    running: list[_Training] = []
    ended: list[_Training] = []
    failures: list[Failure] = []
    bar = _bar(len(pending))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), test=test, jobs=jobs))
            for training in [one for one in running if one.process.poll() is not None]:
                running.remove(training)
                training.look()
                training.epochs_left = 0  # patience may have ended it
                ended.append(training)
                if training.process.returncode == 0:
                    bar.write(on_end(training.run, time.monotonic() - training.started))
                else:
                    failures.append(_failure(training))
                    bar.write(f"{training.run.name}: failed, see {training.log}")
            _show(bar, waiting, running, ended)
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        bar.close()
        for training in running:
            training.process.terminate()
        for training in running:
            _wait_or_kill(training.process)
    return failures


def _bar(num_runs: int) -> tqdm:
    """A bar over the epochs of all runs, in this process's time."""
    return tqdm(
        desc="epochs",
        total=1,
        bar_format="{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}, at most {remaining} left{postfix}",
        dynamic_ncols=True,
        disable=num_runs == 0,
        mininterval=1.0 if sys.stderr.isatty() else 60.0,
    )


def _show(
    bar: tqdm, waiting: Sequence[PlannedRun], running: Sequence[_Training], ended: Sequence[_Training]
) -> None:
    """Moves the bar; early stopping makes what is left shorter."""
    if bar.disable or time.time() - bar.last_print_t < bar.mininterval:
        return
    for training in running:
        training.look()
    begun = [*running, *ended]
    bar.total = sum(one.epochs_here + one.epochs_left for one in begun)
    bar.total += sum(run.settings.epochs for run in waiting)
    bar.set_postfix_str(f"training {', '.join(one.run.name for one in running)}", refresh=False)
    bar.n = sum(one.epochs_here for one in begun)
    bar.last_print_t = time.time()
    bar.refresh()


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
    return _Training(run, process, log, start)


def _failure(training: _Training) -> Failure:
    # A progress bar on its way to a file is one line with carriage returns: its end is what counts.
    lines = [line.rpartition("\r")[2] for line in training.output().splitlines()]
    last = [line for line in lines if line.strip()][-_LINES_OF_A_FAILURE:]
    return Failure(training.run, training.log, "\n".join(last))
