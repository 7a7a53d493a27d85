"""Trains the runs of a plan, each in a process of its own, some side by side."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
    """A run that is being trained."""

    run: PlannedRun
    process: subprocess.Popen
    log: Path
    log_start: int
    started: float = field(default_factory=time.monotonic)
    epoch: int = 0
    epochs_here: int = 0
    last_epoch_at: float = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> None:
        """Reads from the log how many epochs are finished."""
        found = _EPOCH.findall(self.output())
        if len(found) > self.epochs_here:
            self.epoch, self.epochs_here = int(found[-1][0]), len(found)
            self.last_epoch_at = self.seconds

    def output(self) -> str:
        """What this process wrote to the log so far."""
        with self.log.open("rb") as file:
            file.seek(self.log_start)
            return file.read().decode("utf-8", errors="replace")

    def seconds_in_all(self) -> float | None:
        """How long the process will take if all epochs are used up; None before its first epoch ended."""
        if not self.epochs_here:
            return None
        an_epoch = self.last_epoch_at / self.epochs_here
        return self.last_epoch_at + an_epoch * (self.run.settings.epochs - self.epoch)


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
    failures: list[Failure] = []
    seconds_of: dict[str, list[float]] = {}
    shown = _Shown(len(pending))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(0), test=test, jobs=jobs))
            for training in [one for one in running if one.process.poll() is not None]:
                running.remove(training)
                if training.process.returncode == 0:
                    seconds_of.setdefault(_kind(training.run), []).append(training.seconds)
                    shown.end(on_end(training.run, training.seconds))
                else:
                    failures.append(_failure(training))
                    shown.end(f"{training.run.name}: failed, see {training.log}")
            shown.refresh(running, seconds_left(waiting, running, seconds_of, jobs))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        shown.close()
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


def seconds_left(
    waiting: Sequence[PlannedRun],
    running: Sequence[_Training],
    seconds_of: Mapping[str, Sequence[float]],
    jobs: int,
) -> float | None:
    """How long all that is left may take, at most, as far as can be known.

    A run is taken to last as runs of its system did so far, one of a system not met yet as the mean of those
    met. Early stopping makes it shorter.

    Args:
      waiting: runs that are not begun.
      running: runs being trained.
      seconds_of: system -> what its runs took.
      jobs: processes side by side.

    Returns:
      Seconds; None while nothing is known.
    """
    known = {kind: list(values) for kind, values in seconds_of.items()}
    for training in running:
        if (expected := training.seconds_in_all()) is not None:
            known.setdefault(_kind(training.run), []).append(expected)
    if not known:
        return None
    mean_of = {kind: sum(values) / len(values) for kind, values in known.items()}
    overall = sum(mean_of.values()) / len(mean_of)
    left = sum(mean_of.get(_kind(run), overall) for run in waiting)
    longest = 0.0
    for training in running:
        expected = training.seconds_in_all() or mean_of.get(_kind(training.run), overall)
        still = max(0.0, expected - training.seconds)
        left += still
        longest = max(longest, still)
    return max(left / jobs, longest)


def _kind(run: PlannedRun) -> str:
    """Runs of one kind take about equally long."""
    return run.name.rsplit("-", 1)[0]


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


class _Shown:
    """One line that says how far the plan is; a line above it for each run that ended."""

    def __init__(self, total: int):
        self._interval = 1.0 if sys.stderr.isatty() else 60.0
        self._refreshed = 0.0
        self._bar = tqdm(
            total=total,
            desc="runs",
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar:20}| {elapsed}{postfix}",
            dynamic_ncols=True,
            disable=total == 0,
            mininterval=self._interval,
        )

    def refresh(self, running: Sequence[_Training], left: float | None) -> None:
        now = time.monotonic()
        if now - self._refreshed < self._interval:
            return
        self._refreshed = now
        for training in running:
            training.look()
        names = [
            f"{one.run.name} (epoch {one.epoch + 1 if one.epoch < one.run.settings.epochs else one.epoch})"
            for one in running
        ]
        time_left = "time left unknown yet" if left is None else f"at most {tqdm.format_interval(left)} left"
        self._bar.set_postfix_str(f"{time_left}, training {', '.join(names) or 'nothing'}")

    def end(self, line: str) -> None:
        self._bar.write(line)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()
