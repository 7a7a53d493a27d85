"""A trial of a search, in a process of its own: it trains, and tells the study what came of it."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait
from pathlib import Path

import optuna
from optuna.trial import TrialState

from causerec_tf.settings import Settings
from pipelines.command_line import streams
from pipelines.comparison import search


def train(file: Path, system: str, number: int, settings: Settings, jobs: int) -> None:
    """Trains a trial of a system from where it is to its end, and tells the study in the file of all.

    `jobs` processes share the cores.
    """
    directory = Path(settings.run)
    directory.parent.mkdir(parents=True, exist_ok=True)
    streams.print_to(directory.with_name(f"{directory.name}.log"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the search ends its trials
    threading.Thread(target=_end_with_the_search, daemon=True).start()
    if jobs > 1:
        threads = str(max(1, len(os.sched_getaffinity(0)) // jobs))
        os.environ.update(TF_NUM_INTRAOP_THREADS=threads, TF_NUM_INTEROP_THREADS=threads)
    from causerec_tf import runs, training
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.progress import Epoch, Progress
    from pipelines.command_line import command

    command.keep_freed_memory()
    study = search.open_study(file, system)
    trial = search.trial_of(study, number)
    reporter = search.Reporter(trial, settings.choose_by)
    dataset, run = open_dataset(settings.dataset), runs.RunDirectory(directory, flag="--output")

    def on_epoch(epoch: Epoch) -> None:
        reporter.on_epoch(epoch.number, epoch.validation)

    def on_start(progress: Progress) -> None:
        for epoch in progress.epochs:
            on_epoch(epoch)

    try:
        with run.locked():
            run.start(settings, dataset)
            training.train(settings, dataset, run, on_start=on_start, on_epoch=on_epoch)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except training.NonFiniteLossError as error:
        print(error)
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, reporter.best_score)


def _end_with_the_search() -> None:
    """A trial whose search was killed would be in the way of the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
