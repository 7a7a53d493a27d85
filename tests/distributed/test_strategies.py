"""Training on several devices and processes against training on one; real processes on loopback."""

import collections
import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import runs
from causerec_tf.data import windows
from causerec_tf.distributed import strategies
from causerec_tf.errors import InputError
from tests.pipelines import scripts

PROGRAM = [sys.executable, "-m", "tests.distributed.training_program"]
MINUTES = 600.0  # seconds: at most this long does a test wait for processes
NUM_ITEMS = 120
BATCH_SIZE = 236


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    made = scripts.write_world(tmp_path_factory.mktemp("strategies") / "world", num_users=403)
    # Of the last batch of an epoch, a single window: fewer than there are replicas.
    assert made.num_training_windows % BATCH_SIZE == 1
    return made


def environment(**variables):
    return scripts.environment() | {"PYTHONPATH": str(scripts.ROOT)} | variables


def flags(dataset, run, **values):
    values = {"batch_size": BATCH_SIZE} | values
    made = scripts.flags(dataset=dataset.directory, run=run, **values)
    # The base model has no memory.
    return [flag for flag in made if "memory_size" not in flag or values.get("method") != "base"]


class Cluster:
    """Processes with a TF_CONFIG each; none outlives the test."""

    def __init__(self, place, **jobs):
        self._place = place
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(sum(jobs.values()))]
        addresses = iter([f"127.0.0.1:{one.getsockname()[1]}" for one in sockets])
        self.cluster = {job: [next(addresses) for _ in range(count)] for job, count in jobs.items()}
        for one in sockets:
            one.close()
        self.processes = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def start(self, job, index, arguments):
        config = json.dumps({"cluster": self.cluster, "task": {"type": job, "index": index}})
        with (self._place / f"{job}{index}.log").open("w") as log:
            self.processes[job, index] = subprocess.Popen(
                [*PROGRAM, *arguments],
                cwd=scripts.ROOT,
                env=environment(TF_CONFIG=config),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start_all(self, arguments):
        for job, addresses in self.cluster.items():
            for index in range(len(addresses)):
                self.start(job, index, arguments)

    def said(self, job, index):
        return (self._place / f"{job}{index}.log").read_text(encoding="utf-8")

    def wait(self, *tasks):
        """The exit codes of the tasks, of all if none is named."""
        deadline = time.monotonic() + MINUTES
        codes = {}
        for task in tasks or self.processes:
            try:
                codes[task] = self.processes[task].wait(timeout=deadline - time.monotonic())
            except subprocess.TimeoutExpired:
                pytest.fail(f"{task} did not end; it said: {self.said(*task)[-3000:]}")
        return codes

    def succeed(self):
        for task, code in self.wait().items():
            assert code == 0, (task, self.said(*task)[-3000:])

    def wait_for(self, path, seconds=MINUTES):
        deadline = time.monotonic() + seconds
        while not path.exists():
            assert time.monotonic() < deadline, self.said(*next(iter(self.processes)))[-3000:]
            time.sleep(0.02)


def record_of(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def losses_of(run):
    return [epoch["losses"]["matching"] for epoch in record_of(run)["by_epoch"]]


def assert_same_result(run, other):
    """Equal but for the rounding of sums in another order."""
    ours, theirs = (runs.load_trained(one).model for one in (run, other))
    assert record_of(run)["best_epoch"] == record_of(other)["best_epoch"]
    for one, two in zip(ours.user_tower.weights, theirs.user_tower.weights, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-3)
    np.testing.assert_allclose(ours.item_embeddings(), theirs.item_embeddings(), atol=2e-3)
    for name, value in record_of(run)["test"].items():
        assert value == pytest.approx(record_of(other)["test"][name], abs=0.02)


def train_alone(arguments, **variables):
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=scripts.ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=MINUTES,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(name="one_device", scope="module")
def fixture_one_device(dataset, tmp_path_factory):
    """Method -> a run on one device."""
    made = {}

    def run_of(method):
        if method not in made:
            made[method] = tmp_path_factory.mktemp("one_device") / method
            train_alone(flags(dataset, made[method], method=method))
        return made[method]

    return run_of


def windows_of(batch):
    rows = zip(batch["history"].numpy().tolist(), batch["target"].numpy().tolist(), strict=True)
    return collections.Counter((tuple(history), target) for history, target in rows)


@pytest.mark.parametrize(
    ("num_pipelines", "skip", "ahead"), [pytest.param(2, 0, 1, marks=pytest.mark.long), (3, 2, 4)]
)
def test_shares_of_pipelines_are_together_the_batches_of_one(dataset, num_pipelines, skip, ahead):
    settings = {"batch_size": 150, "max_history": 5, "seed": 0, "epoch": 1, "skip_batches": skip}

    def batches(**options):
        return list(windows.training_batches(dataset, **settings, targets_ahead=ahead, **options))

    whole = batches()
    shares = [batches(num_pipelines=num_pipelines, pipeline=pipeline) for pipeline in range(num_pipelines)]
    for number, batch in enumerate(whole):
        together = collections.Counter()
        for share in shares:
            if number < len(share):
                assert len(share[number]["target"]) <= 150 // num_pipelines
                together += windows_of(share[number])
        assert together == windows_of(batch)


@pytest.mark.parametrize("num_pipelines", [pytest.param(2, marks=pytest.mark.long), 3])
def test_pipelines_share_whole_sequences(dataset, num_pipelines):
    settings = {"batch_size": 12, "max_history": 5, "seed": 0, "epoch": 1, "whole_sequences": True}

    def rows(**options):
        batches = windows.training_batches(dataset, **settings, targets_ahead=2, **options)
        return [row for batch in batches for row in np.hstack([batch["history"], batch["targets"]]).tolist()]

    whole = rows()
    shares = [rows(num_pipelines=num_pipelines, pipeline=number) for number in range(num_pipelines)]
    assert [len(share) for share in shares] == [
        len(range(number, len(whole), num_pipelines)) for number in range(num_pipelines)
    ]
    assert sorted(row for share in shares for row in share) == sorted(whole)


CHIEF = {"cluster": {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "is not set"),
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        (CHIEF | {"task": {"type": "worker", "index": 0}}, "has the jobs chief, ps, worker"),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}, "no address for its task"),
        ({"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}, "without a list"),
        ({"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}, "not host:port, among a"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}, "an address twice"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(monkeypatch, config, message):
    if config is None:
        monkeypatch.delenv("TF_CONFIG", raising=False)
    else:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(InputError, match=message):
        strategies.read_task("multi_worker")
    assert strategies.read_task("mirrored") is None


@pytest.mark.parametrize(
    ("job", "jobs", "is_chief"),
    [
        ("worker", {"worker": ["a:1", "b:1"]}, True),
        ("worker", {"worker": ["a:1", "b:1"], "chief": ["c:1"]}, False),
        ("chief", {"worker": ["a:1", "b:1"], "chief": ["c:1"]}, True),
    ],
)
def test_one_task_writes_the_run(monkeypatch, job, jobs, is_chief):
    config = {"cluster": jobs, "task": {"type": job, "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert strategies.read_task("multi_worker").is_chief == is_chief


def test_the_script_refuses_a_missing_cluster(tmp_path):
    done = scripts.run("pipelines/train.py", "--dataset=d", f"--run={tmp_path}/r", "--strategy=multi_worker")
    scripts.assert_refused(done, "TF_CONFIG is not set", '"cluster"')


@pytest.mark.long
def test_two_mirrored_devices_train_as_one(tmp_path, dataset, one_device):
    run = tmp_path / "mirrored"
    train_alone(flags(dataset, run, method="base", strategy="mirrored"), TWO_DEVICES="1")
    assert record_of(run)["distribution"] == {"strategy": "mirrored", "replicas": 2}
    assert losses_of(run) == pytest.approx(losses_of(one_device("base")), rel=1e-4)
    assert_same_result(run, one_device("base"))


@pytest.mark.long
def test_whole_sequences_on_two_mirrored_devices_train_as_on_one(tmp_path, dataset):
    """Replicas have different numbers of predictions; each counts as much as on one device."""
    arguments = {"method": "base", "tower": "sasrec", "training_rows": "sequences", "batch_size": 38}
    places = {"one_device": tmp_path / "one_device", "mirrored": tmp_path / "mirrored"}
    for strategy, run in places.items():
        train_alone(flags(dataset, run, strategy=strategy, **arguments), TWO_DEVICES="1")
    assert losses_of(places["mirrored"]) == pytest.approx(losses_of(places["one_device"]), rel=1e-4)
    assert_same_result(places["mirrored"], places["one_device"])


@pytest.mark.long
def test_counterfactuals_on_two_mirrored_devices(tmp_path, dataset):
    """Their draws differ, so that the losses agree but for noise; the memories hold the same."""
    arguments = {"method": "hierarchical", "num_concepts": 4, "memory_size": 100_000}
    places = {"one_device": tmp_path / "one_device", "mirrored": tmp_path / "mirrored"}
    for strategy, run in places.items():
        train_alone(flags(dataset, run, strategy=strategy, **arguments), TWO_DEVICES="1")
    assert losses_of(places["mirrored"]) == pytest.approx(losses_of(places["one_device"]), rel=0.02)
    mirrored, single = (memory_of(run, "item_synthesis") for run in places.values())
    assert mirrored["next"] == mirrored["filled"] == single["next"] == single["filled"]
    # Within a step in another order.
    np.testing.assert_array_equal(np.sort(mirrored["concepts"]), np.sort(single["concepts"]))
    mirrored, single = (memory_of(run, "interest_synthesis") for run in places.values())
    assert mirrored["filled"] == single["filled"] == 2 * 4 * dataset.num_training_windows


def memory_of(run, layer):
    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(run / "checkpoints"))
    return {
        name: checkpoint.get_tensor(f"model/{layer}/memory/_{name}/.ATTRIBUTES/VARIABLE_VALUE")
        for name in ("concepts", "next", "filled")
    }


@pytest.mark.long
def test_two_workers_train_as_one_device(tmp_path, dataset, one_device):
    run = tmp_path / "run"
    with Cluster(tmp_path, worker=2) as cluster:
        cluster.start_all(flags(dataset, run, method="base", strategy="multi_worker"))
        cluster.succeed()
        assert "epoch 2/2" in cluster.said("worker", 0)
        assert "the chief reports" in cluster.said("worker", 1)
    assert record_of(run)["distribution"] == {"strategy": "multi_worker", "replicas": 2}
    assert losses_of(run) == pytest.approx(losses_of(one_device("base")), rel=1e-4)
    assert_same_result(run, one_device("base"))


@pytest.mark.long
def test_a_lost_worker_ends_training_with_words_and_all_go_on_together(tmp_path, dataset, one_device):
    run = tmp_path / "run"
    arguments = flags(dataset, run, method="base", strategy="multi_worker")
    steps = ["--checkpoint_steps=2"]
    with Cluster(tmp_path, worker=2) as cluster:
        cluster.start_all([*arguments, *steps])
        cluster.wait_for(run / "checkpoints" / "checkpoint")
        cluster.processes["worker", 1].send_signal(signal.SIGKILL)
        assert cluster.wait(("worker", 0)) == {("worker", 0): 1}
        said = cluster.said("worker", 0)
        assert "a task of the cluster was lost" in said and "Start all tasks again" in said
        assert "Traceback" not in said
    assert not (run / "metrics.json").exists()
    with Cluster(tmp_path, worker=2) as cluster:
        cluster.start_all([*arguments, *steps])
        cluster.succeed()
        assert "going on from epoch" in cluster.said("worker", 0)
    assert_same_result(run, one_device("base"))


@pytest.mark.long
def test_workers_with_other_flags_are_refused(tmp_path, dataset):
    arguments = flags(dataset, tmp_path / "run", strategy="multi_worker")
    with Cluster(tmp_path, worker=2) as cluster:
        cluster.start("worker", 0, arguments)
        cluster.start("worker", 1, [*arguments, "--learning_rate=0.1"])
        assert set(cluster.wait().values()) == {2}
        assert "not started with the same flags" in cluster.said("worker", 0)


@pytest.mark.long
def test_parameter_servers(tmp_path, dataset, one_device):
    """One chief, two workers, two parameter servers; then the run is read by a single process."""
    run = tmp_path / "run"
    arguments = flags(dataset, run, method="item", strategy="parameter_server", epochs=3)
    with Cluster(tmp_path, chief=1, worker=2, ps=2) as cluster:
        cluster.start_all(arguments)
        cluster.succeed()
        parts = [line for line in cluster.said("chief", 0).splitlines() if "part of the table" in line]
    assert [("ps/replica:0/task:0" in parts[0]), ("ps/replica:0/task:1" in parts[1])] == [True, True]
    assert [part.rpartition("[")[2] for part in parts] == ["61, 16]", "60, 16]"]
    about = {"strategy": "parameter_server", "workers": 2, "parameter_servers": 2, "replicas": 1}
    assert record_of(run)["distribution"] == about
    # Asynchronous steps are taken at variables some steps old.
    assert losses_of(run)[:2] == pytest.approx(losses_of(one_device("item")), rel=0.08)
    assert losses_of(run)[2] < losses_of(run)[0]

    checkpoint = tf.train.load_checkpoint(tf.train.latest_checkpoint(run / "checkpoints"))
    value = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert checkpoint.get_tensor(f"model/item_tower/table{value}").shape == (NUM_ITEMS + 1, 16)
    steps = 3 * windows.num_batches(dataset, BATCH_SIZE)
    assert checkpoint.get_tensor(f"optimizer/_iterations{value}") == steps  # each batch once

    done = scripts.run("pipelines/evaluate.py", f"--run={run}", f"--output={tmp_path / 'again.json'}")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["test"] == pytest.approx(record_of(run)["test"], abs=1e-6)


@pytest.mark.long
def test_a_lost_worker_is_survived_and_a_lost_chief_is_not(tmp_path, dataset):
    """With parameter servers; the run then goes on with another number of them."""
    run = tmp_path / "run"
    arguments = flags(dataset, run, strategy="parameter_server", epochs=40, patience=40, checkpoint_steps=2)
    with Cluster(tmp_path, chief=1, worker=2, ps=2) as cluster:
        cluster.start_all(arguments)
        cluster.wait_for(run / "checkpoints" / "checkpoint")
        cluster.processes["worker", 1].send_signal(signal.SIGKILL)
        cluster.wait_for(run / "best" / "checkpoint")
        assert cluster.processes["chief", 0].poll() is None
        cluster.processes["chief", 0].send_signal(signal.SIGKILL)
        others = [("worker", 0), ("ps", 0), ("ps", 1)]
        assert set(cluster.wait(*others).values()) == {1}
        assert "has gone and the run is not finished" in cluster.said("ps", 0)
    text = (run / "flags.txt").read_text()
    (run / "flags.txt").write_text(text.replace("epochs=40", "epochs=4"))
    arguments = [one.replace("--epochs=40", "--epochs=4") for one in arguments]
    with Cluster(tmp_path, chief=1, worker=1, ps=3) as cluster:
        cluster.start_all(arguments)
        cluster.succeed()
        assert "going on from epoch" in cluster.said("chief", 0)
    assert record_of(run)["distribution"]["parameter_servers"] == 3


@pytest.mark.long
def test_a_lost_parameter_server_ends_the_chief_with_words(tmp_path, dataset):
    run = tmp_path / "run"
    arguments = flags(dataset, run, strategy="parameter_server", epochs=40, patience=40)
    with Cluster(tmp_path, chief=1, worker=1, ps=2) as cluster:
        cluster.start_all(arguments)
        cluster.wait_for(run / "checkpoints" / "checkpoint")
        cluster.processes["ps", 1].send_signal(signal.SIGKILL)
        assert cluster.wait(("chief", 0)) == {("chief", 0): 1}
        said = cluster.said("chief", 0)
        assert "a task of the cluster was lost" in said and "Traceback" not in said
