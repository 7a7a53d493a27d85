"""Shards by several processes of this machine.

A process is given a shard, tells how it goes on, and is given the next. It ends when the process that
started it does, whatever became of that: nothing of a job goes on when the next begins.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from export.batch.job_settings import AnswerTally, JobSettings
from export.batch.shards import Job, Shard
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk


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


@dataclass(frozen=True)
class _Failure:
    """Why a process ends: what to tell the user, or a traceback when it is nobody's input."""

    message: str
    is_bad_input: bool


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
      RuntimeError: a process has failed or was killed; also then.
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
    processes: dict[Connection, SpawnProcess] = {}
    try:
        for _ in range(min(jobs, len(left))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_run, args=(theirs, job, settings, threads), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
        return _hand_out(left, processes, on_step)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _hand_out(
    left: list[Shard], processes: dict[Connection, SpawnProcess], on_step: Callable[[Step], None]
) -> AnswerTally:
    """Gives each process the next shard when it asks, until there is none and all have ended."""
    tally = AnswerTally()
    waiting = iter(left)
    busy = dict(processes)
    while busy:
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            try:
                said = connection.recv()
                if isinstance(
                    said, AnswerTally
                ):  # it is ready for the next; after a shard it tells what came of that
                    shard = next(waiting, None)
                    connection.send(shard)
            except (EOFError, ConnectionResetError, BrokenPipeError):
                process = busy[connection]
                process.join()
                raise RuntimeError(
                    f"A process was killed from outside (exit code {process.exitcode}), as happens when"
                    " memory is short. The finished shards stay: the same command goes on, with a smaller"
                    " --jobs if it was that."
                ) from None
            if isinstance(said, _Failure):
                raise BundleError(said.message) if said.is_bad_input else RuntimeError(said.message)
            if isinstance(said, Step):
                on_step(said)
                continue
            tally.add(said)
            if shard is None:
                del busy[connection]
    return tally


def _run(connection: Connection, job: Job, settings: JobSettings, threads: int) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Nobody is there to be told when the pipe has ended.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            from export.store.runtime import tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
            work = _Work(job, settings, connection.send)
            connection.send(AnswerTally())
            while (shard := connection.recv()) is not None:
                connection.send(work.answer(shard))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except BundleError as error:
            connection.send(_Failure(str(error), is_bad_input=True))
        except Exception as error:
            told = f"A process failed:\n{traceback.format_exc()}" if full_disk(error) is None else str(error)
            connection.send(_Failure(told, is_bad_input=False))


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
