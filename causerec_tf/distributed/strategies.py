"""Where a run trains: on one device, on several of a machine, or on the tasks of a cluster (`tf.distribute`).

Synchronous replicas (mirrored, multi_worker) take each step together. What they do to a batch is what one
device would do to it: each has a share of its examples, their gradients are summed, the rows of several
replicas in the gradient of a table added up, and the negatives are the same. Only the draws of the
counterfactuals differ. Asynchronous workers (parameter_server) take steps by themselves on variables that lie
on parameter servers, the item table in parts; `asynchronous` has their loop.
"""

import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from causerec_tf.data.sequences import Dataset
from causerec_tf.data.windows import training_batches
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings

# The jobs that TF_CONFIG must have, and those that it may have.
_JOBS = {
    "multi_worker": ({"worker"}, {"chief"}),
    "parameter_server": ({"chief", "worker", "ps"}, set()),
}
_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
# What TensorFlow raises when another task ends or cannot be reached.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class LostTaskError(RuntimeError):
    """Another task of the cluster ended, or cannot be reached, and training cannot go on without it."""


@dataclass(frozen=True)
class Task:
    """The place of this process in the cluster of TF_CONFIG, the addresses of each job's tasks."""

    cluster: dict[str, list[str]]
    job: str
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this task writes the run: the chief, or worker 0 where there is none."""
        return (self.job, self.index) == ("chief" if "chief" in self.cluster else "worker", 0)


def read_task(strategy: str) -> Task | None:
    """Reads TF_CONFIG; None for a `Settings.strategy` of one machine, which does not look at it.

    Raises:
      InputError: TF_CONFIG is missing, or does not describe a cluster for the strategy and a task in it.
    """
    if strategy not in _JOBS:
        return None
    required, optional = _JOBS[strategy]

    def refusal(what: str) -> InputError:
        jobs = ", ".join(sorted(required)) + "".join(f" and perhaps {job}" for job in optional)
        return InputError(
            f"--strategy={strategy}: the environment's TF_CONFIG {what}. Wanted a cluster with the jobs"
            f" {jobs}, and this process's task in it, such as {_EXAMPLE}."
        )

    text = os.environ.get("TF_CONFIG")
    if not text:
        raise refusal("is not set")
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        job, index = task["type"], int(task["index"])
        addresses = [address for tasks in cluster.values() for address in tasks]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(f"cannot be read ({type(error).__name__}: {error}): {text}") from error
    if not required <= set(cluster) <= required | optional:
        raise refusal(f"has the jobs {', '.join(sorted(cluster)) or 'none'}")
    if not all(isinstance(tasks, list) and tasks for tasks in cluster.values()):
        raise refusal("has a job without a list of addresses")
    if not all(isinstance(one, str) and one.rpartition(":")[2].isdigit() for one in addresses):
        raise refusal(f"has an address that is not host:port, among {', '.join(map(str, addresses))}")
    if len(set(addresses)) < len(addresses):
        raise refusal("has an address twice")
    if len(cluster.get("chief", [""])) != 1:
        raise refusal("has several chiefs")
    if job not in cluster or not 0 <= index < len(cluster[job]):
        raise refusal(f"has no address for its task {job} {index}")
    return Task(cluster, job, index)


@dataclass(frozen=True)
class Distribution:
    """A strategy at work.

    Attributes:
      strategy: TensorFlow's; its default one for one device.
      is_chief: whether this process writes the run. The others hold the same variables.
      coordinator: who hands steps to asynchronous workers; None where steps are synchronous.
      about: for the run's record; empty for one device.
      scratch: where a process that is not the chief saves, to be thrown away: all must take part in a
        checkpoint, since what one of them saves is summed over all. None for the chief.
    """

    strategy: tf.distribute.Strategy
    is_chief: bool = True
    coordinator: tf.distribute.coordinator.ClusterCoordinator | None = None
    about: dict = field(default_factory=dict)
    scratch: tempfile.TemporaryDirectory | None = None

    @property
    def num_replicas(self) -> int:
        """How many share a step."""
        return self.strategy.num_replicas_in_sync

    @property
    def is_one_device(self) -> bool:
        """Whether training is Keras's own on one device."""
        return not self.about

    def batches(
        self,
        dataset: Dataset,
        settings: Settings,
        *,
        epoch: int,
        skip_batches: int,
        whole_sequences: bool = False,
    ):
        """What is left of an epoch: a `tf.data.Dataset`, or TensorFlow's distributed kind of it."""

        def of_pipeline(num_pipelines: int = 1, pipeline: int = 0) -> tf.data.Dataset:
            return training_batches(
                dataset,
                batch_size=settings.batch_size,
                max_history=settings.max_history,
                seed=settings.seed,
                epoch=epoch,
                skip_batches=skip_batches,
                targets_ahead=settings.targets_ahead,
                whole_sequences=whole_sequences,
                num_pipelines=num_pipelines,
                pipeline=pipeline,
            )

        def for_replicas(context: tf.distribute.InputContext) -> tf.data.Dataset:
            share = of_pipeline(context.num_input_pipelines, context.input_pipeline_id)
            # The replicas of a pipeline take its elements in turn.
            return share.rebatch(context.get_per_replica_batch_size(settings.batch_size))

        if self.is_one_device or self.coordinator is not None:
            return of_pipeline()
        return self.strategy.distribute_datasets_from_function(for_replicas)

    def in_shares(self, compute: Callable[[slice], np.ndarray], size: int) -> np.ndarray:
        """Computes rows, each replica a share; every process gets all, and draws the same conclusions.

        `compute` gives the rows of a slice, [rows, ...]; all [size, ...] are given in their order.
        """
        count = self.num_replicas
        if count == 1:
            return compute(slice(0, size))

        def share(context) -> tf.Tensor:
            replica = context.replica_id_in_sync_group
            return tf.constant(compute(slice(size * replica // count, size * (replica + 1) // count)))

        shares = self.strategy.experimental_distribute_values_from_function(share)
        return self.strategy.gather(shares, axis=0).numpy()

    def check_agreement(self, text: str) -> None:
        """Raises `InputError` where another process was given another text."""
        digest = zlib.crc32(text.encode())
        digests = self.in_shares(lambda rows: np.full(rows.stop - rows.start, digest), self.num_replicas)
        if len(set(digests.tolist())) > 1:
            raise InputError(
                "the tasks of the cluster were not started with the same flags and dataset. Give every task"
                " the same command; only TF_CONFIG says which task it is."
            )

    @contextmanager
    def lost_tasks_explained(self) -> Iterator[None]:
        """Raises `LostTaskError` where TensorFlow says that another task cannot be reached."""
        try:
            yield
        except _LOST as error:
            if self.is_one_device:
                raise
            raise LostTaskError(
                "a task of the cluster was lost, or cannot be reached any more, and the others cannot train"
                " without it. Start all tasks again with the same commands: the run goes on from its last"
                f" checkpoint. TensorFlow's words: {_first_line(error)}"
            ) from error


def one_device() -> Distribution:
    """No distribution: what Keras does by itself."""
    return Distribution(tf.distribute.get_strategy())


def start(settings: Settings, num_items: int, task: Task | None) -> Distribution:
    """Starts the strategy of a run on V items, and with it the part in the cluster of this process, the task.

    A cluster must be joined before TensorFlow has computed anything in this process.

    Raises:
      InputError: the batch cannot be shared by the replicas.
      LostTaskError: the other tasks did not come.
    """
    if settings.strategy == "one_device":
        return one_device()
    about: dict = {"strategy": settings.strategy}
    coordinator = None
    try:
        if settings.strategy == "mirrored":
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
        elif settings.strategy == "multi_worker":
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        else:
            assert task is not None
            strategy = _parameter_server_strategy(settings, num_items, task)
            coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
            about |= {"workers": len(task.cluster["worker"]), "parameter_servers": len(task.cluster["ps"])}
    except _LOST as error:
        raise LostTaskError(
            "the tasks of TF_CONFIG did not come together. Start all of them, each with its own task in"
            f" TF_CONFIG. TensorFlow's words: {_first_line(error)}"
        ) from error
    replicas = strategy.num_replicas_in_sync
    if settings.batch_size % replicas:
        raise InputError(
            f"--batch_size={settings.batch_size} cannot be shared by {replicas} replicas: wanted a multiple"
            " of that. It is the batch of all replicas together."
        )
    is_chief = task is None or task.is_chief
    scratch = None if is_chief else tempfile.TemporaryDirectory()
    return Distribution(strategy, is_chief, coordinator, about | {"replicas": replicas}, scratch)


def _parameter_server_strategy(settings: Settings, num_items: int, task: Task):
    """The strategy of the chief, with the item table in as many parts as there are parameter servers."""
    table = [num_items + 1, settings.embedding_dim]
    if settings.reads_interests and settings.memory_size == table[0]:
        raise InputError(
            f"--memory_size={settings.memory_size} is the number of rows of the item table, by which the"
            " table is known to the parameter servers. Take one more or less."
        )
    in_parts = tf.distribute.experimental.partitioners.FixedShardsPartitioner(len(task.cluster["ps"]))

    def partitioner(shape, dtype, **kwargs) -> list[int]:
        is_table = tf.TensorShape(shape).as_list() == table
        return in_parts(shape, dtype, **kwargs) if is_table else [1] * len(shape)

    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(task.cluster), task_type=task.job, task_id=task.index, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)


def _first_line(error: tf.errors.OpError) -> str:
    lines = [line for line in error.message.splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
