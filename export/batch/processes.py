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
from multiprocessing.queues import SimpleQueue

from export.batch.job_settings import AnswerTally, JobSettings
from export.batch.shards import Job, Shard

_LOOK_SECONDS = 0.1  # between two looks at how the processes go on

# How many bytes of the inputs were read since the last call, users answered, items recommended to them.
OnStep = Callable[[int, int, int], object]


def cores() -> int:
    """The cores that this process may use: in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def answer_shards(
    job: Job, settings: JobSettings, *, jobs: int, threads: int, on_step: OnStep
) -> AnswerTally:
    """Answers all shards that are left, with so many threads of TensorFlow in each of so many processes.

    With one shard or one process the work is done in this process.

    Raises:
      BundleError: an input, or the bundle, cannot be used. The finished shards stay.
      RuntimeError: a process was killed; also then.
    """
    left, tally = job.left, AnswerTally()
    if not left:
        return tally
    if min(jobs, len(left)) == 1:
        answer = _answering(job, settings, on_step)
        for shard in left:
            tally.add(answer(shard))
        return tally
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    steps: SimpleQueue = context.SimpleQueue()
    with ProcessPoolExecutor(min(jobs, len(left)), context, _begin, (job, settings, threads, steps)) as pool:
        try:
            pending = {pool.submit(_answer, shard) for shard in left}
            while pending:
                done, pending = wait(pending, _LOOK_SECONDS, FIRST_COMPLETED)
                while not steps.empty():
                    on_step(*steps.get())
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


def _answering(job: Job, settings: JobSettings, on_step: OnStep) -> Callable[[Shard], AnswerTally]:
    """Loads the bundle, and gives what answers a shard."""
    from export.batch.answering import Answering, write_answers  # these load TensorFlow, in each process anew
    from export.batch.recommendation_files import RecommendationWriter, schema_of

    answering = Answering.open(job.bundle, settings)
    assert answering.retriever.version == job.version

    def on_batch(num_bytes: int, _rows: list, answers: list) -> None:
        on_step(num_bytes, len(answers), sum(len(answer.items) for answer in answers))

    def answer(shard: Shard) -> AnswerTally:
        schema = schema_of(answering.retriever.columns, settings)
        with RecommendationWriter(shard.path, overwrite=False, work=job.unfinished, schema=schema) as writer:
            writer.write([], [])  # an empty input gives an empty shard
            return write_answers(answering, [shard.source], writer, on_batch)

    return answer


def _begin(job: Job, settings: JobSettings, threads: int, steps: SimpleQueue) -> None:
    """Begins a process of the pool; its first shard loads the bundle, so that an error is that shard's."""
    global _load
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the one that started us ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()

    @functools.cache
    def load() -> Callable[[Shard], AnswerTally]:
        from export.store.runtime import tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        return _answering(job, settings, lambda *step: steps.put(step))

    _load = load


_load: Callable[[], Callable[[Shard], AnswerTally]]  # in a process of the pool


def _answer(shard: Shard) -> AnswerTally:
    return _load()(shard)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
