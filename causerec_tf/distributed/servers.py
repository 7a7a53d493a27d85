"""The processes of parameter-server training other than the chief: they serve variables, or take steps."""

import logging
import socket
import time
from collections.abc import Callable

import tensorflow as tf

from causerec_tf.distributed.strategies import LostTaskError, Task
from causerec_tf.errors import InputError

SECONDS_TO_WAIT_FOR_CHIEF = 600.0
SECONDS_BETWEEN_LOOKS = 1.0
# A chief that is busy may leave a caller waiting; one that is gone refuses every call.
LOOKS_BEFORE_GONE = 5

_logger = logging.getLogger(__name__)


def serve(task: Task, is_finished: Callable[[], bool]) -> None:
    """Runs the TensorFlow server of a `ps` or `worker` task for as long as there is a chief.

    TensorFlow's own server never ends: it is for whoever starts the tasks to end them. Since the chief
    listens at its address while it trains, its end is seen here; then `is_finished` is asked of the run.

    Raises:
      InputError: this task's address cannot be served here.
      LostTaskError: the chief did not come, or has gone and left the run unfinished.
    """
    address = task.cluster[task.job][task.index]
    try:
        server = tf.distribute.Server(
            tf.train.ClusterSpec(task.cluster), job_name=task.job, task_index=task.index, protocol="grpc"
        )
    except tf.errors.OpError as error:
        raise InputError(
            f"{task.job} {task.index} cannot listen at {address}, its address in TF_CONFIG: {error.message}"
        ) from error
    _logger.info("Serving as %s %d at %s.", task.job, task.index, server.target)
    chief = task.cluster["chief"][0]
    deadline = time.monotonic() + SECONDS_TO_WAIT_FOR_CHIEF
    while not _answers(chief):
        if time.monotonic() > deadline:
            raise LostTaskError(
                f"the chief did not come to {chief} within {SECONDS_TO_WAIT_FOR_CHIEF:.0f} s. Start all tasks"
                " of TF_CONFIG within that time."
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)
    unanswered = 0
    while unanswered < LOOKS_BEFORE_GONE:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        unanswered = 0 if _answers(chief) else unanswered + 1
    if not is_finished():
        raise LostTaskError(
            f"the chief at {chief} has gone and the run is not finished. Start all tasks again with the same"
            " commands: the run goes on from its last checkpoint."
        )


def _answers(address: str) -> bool:
    """Whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return True
    except OSError:
        return False
