"""Shards by several processes of this machine.

A process ends when the process that started it does, whatever became of that: nothing of a job goes on when
the next begins.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue

from export.batch.job_settings import AnswerTally, JobSettings
from export.batch.shards import Job, Shard

_LOOK_SECONDS = 0.1  # between two looks at how the processes go on


@dataclass(frozen=True)
class Step:
    """How a shard has gone on.

    Attributes:
      num_bytes: of its file that were read since the last step.
      users: that were answered since then.
      items: that were recommended to them.
    """

    num_bytes: int
    users: int
    items: int


def cores() -> int:
    """The cores that this process may use: in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def answer_shards(
    job: Job, settings: JobSettings, *, jobs: int, threads: int, on_step: Callable[[Step], None]
) -> AnswerTally:
    """Answers all shards that are left.

    Args:
      job: the shards, and the bundle that answers.
      settings: of the job.
      jobs: processes; with one shard or one process the work is done in this process.
      threads: of TensorFlow in each process.
      on_step: told how it goes on.

    Raises:
      BundleError: an input, or the bundle, cannot be used. The finished shards stay.
      RuntimeError: a process was killed; also then.
    """
    left = job.left
    if not left:
        return AnswerTally()
    if min(jobs, len(left)) == 1:
        work, tally = _Work(job, settings, on_step), AnswerTally()
        for shard in left:
            tally.add(work.answer(shard))
        return tally
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    steps: SimpleQueue = context.SimpleQueue()
    tally = AnswerTally()
    with ProcessPoolExecutor(min(jobs, len(left)), context, _begin, (job, settings, threads, steps)) as pool:
        try:
            pending = {pool.submit(_answer, shard) for shard in left}
            while pending:
                done, pending = wait(pending, _LOOK_SECONDS, FIRST_COMPLETED)
                while not steps.empty():
                    on_step(steps.get())
                for one in done:
                    tally.add(one.result())
        except BrokenProcessPool:
            raise RuntimeError(
                "A process was killed from outside, as happens when memory is short. The finished shards"
                " stay: the same command goes on, with a smaller --jobs if it was that."
            ) from None
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return tally


def _begin(job: Job, settings: JobSettings, threads: int, steps: SimpleQueue) -> None:
    """Begins a process of the pool; its first shard loads the bundle, so that an error is that shard's."""
    global _load
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()

    @functools.cache
    def load() -> "_Work":
        from export.store.runtime import tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        return _Work(job, settings, steps.put)

    _load = load


_load: Callable[[], "_Work"]  # in a process of the pool


def _answer(shard: Shard) -> AnswerTally:
    return _load().answer(shard)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Work:
    """A loaded bundle that answers shards."""

    def __init__(self, job: Job, settings: JobSettings, on_step: Callable[[Step], None]):
        from export.batch.answering import Answering  # these load TensorFlow, in each process anew
        from export.retriever import Retriever

        self._job, self._on_step = job, on_step
        self._answering = Answering(Retriever.open(job.bundle), settings)
        assert self._answering.retriever.version == job.version

    def answer(self, shard: Shard) -> AnswerTally:
        from export.batch.answering import write_answers
        from export.batch.recommendation_files import RecommendationWriter

        num_bytes = 0  # read since the last batch: of text, every line tells some

        def progress(more: int) -> None:
            nonlocal num_bytes
            num_bytes += more

        def batch(_rows: list, answers: list) -> None:
            nonlocal num_bytes
            self._on_step(Step(num_bytes, len(answers), sum(len(answer.items) for answer in answers)))
            num_bytes = 0

        with RecommendationWriter(shard.path, overwrite=False, work=self._job.unfinished) as writer:
            writer.write([], [])  # an empty input gives an empty shard
            tally = write_answers(
                self._answering, [shard.source], writer, on_progress=progress, on_batch=batch
            )
        self._on_step(Step(num_bytes, 0, 0))
        return tally
