"""The exported tower behind the protocols of a model server, and in a host without Python."""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf

from export.store.bundle_errors import TowerBusyError, TowerError, TowerTimeoutError
from export.towers import remote
from export.towers.remote import RemoteTower
from export.towers.user_tower import export_user_tower
from tests.export import toy
from tests.export.model_server import ModelServer, over_grpc, over_rest

NUM_ITEMS, DIMENSION, MAX_HISTORY = 40, 8, 5
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)
TOWER = toy.OrderTower()
VERSION = "0123abcd"
# As ids; the tower reads the last five that are known.
HISTORIES = [["never seen", *IDS[3:10], "nor this"], [IDS[0]], [], ["never seen", IDS[5], IDS[5]]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    place = tmp_path_factory.mktemp("tower") / "1"
    export_user_tower(
        place,
        item_embeddings=TABLE,
        user_tower=TOWER,
        item_ids=IDS,
        max_history=MAX_HISTORY,
        version=VERSION,
        warm_up_histories=[[1, 2]],
    )
    return place


@pytest.fixture(scope="module")
def server(directory):
    return ModelServer(directory)


def vector(history):
    """The training tower at the history's own length; zeros where nothing is known."""
    known = [IDS.index(item) + 1 for item in history if item in IDS][-MAX_HISTORY:]
    if not known:
        return np.zeros(DIMENSION)
    return np.asarray(TOWER(tf.constant(TABLE[[known]]), tf.ones([1, len(known)], tf.bool)))[0]


def test_over_grpc_the_client_gets_what_the_tower_answers(server):
    with over_grpc(server) as address:
        answer = RemoteTower(address)(HISTORIES, timeout=300)
        np.testing.assert_allclose(answer.user_vectors, [vector(one) for one in HISTORIES], atol=1e-5)
        assert answer.num_known.tolist() == [5, 1, 0, 2]
        assert answer.version.tolist() == [VERSION.encode()] * 4
        with pytest.raises(TowerError, match="NOT_FOUND, Servable not found: other"):
            RemoteTower(address, "other")(HISTORIES)


def batching_limit():
    """The `max_batch_size` that is shipped; its proto is in no package."""
    text = (Path(__file__).parents[3] / "export" / "serving" / "batching.config").read_text()
    (limit,) = re.findall(r"(?m)^max_batch_size \{ value: (\d+) \}$", text)
    return int(limit)


@pytest.mark.parametrize("more", [0, 1, 150])
def test_a_server_that_batches_as_the_shipped_one_is_never_asked_for_more(directory, more):
    server = ModelServer(directory)
    server.max_batch_size = batching_limit()
    random = np.random.default_rng(more)
    histories = [random.choice(IDS, 1 + n % 4).tolist() for n in range(server.max_batch_size + more)]
    with over_grpc(server) as address:
        answer = RemoteTower(address)(histories, timeout=300)
    np.testing.assert_allclose(answer.user_vectors, [vector(one) for one in histories], atol=1e-5)
    assert answer.num_known.tolist() == [1 + n % 4 for n in range(len(histories))]
    assert answer.version.tolist() == [VERSION.encode()] * len(histories)
    assert server.calls == -(-len(histories) // server.max_batch_size)


def test_the_timeout_is_for_all_requests_together(directory):
    server = ModelServer(directory)
    server.delay = 0.5
    histories = [[IDS[0]]] * (5 * batching_limit())
    with over_grpc(server) as address, pytest.raises(TowerTimeoutError, match=r"within 1\.200 s"):
        RemoteTower(address)(histories, timeout=1.2)


def test_without_a_time_limit_a_silent_server_is_not_waited_for_for_ever(directory, monkeypatch):
    server = ModelServer(directory)
    server.fault = grpc.StatusCode.DEADLINE_EXCEEDED
    message = r"within 60 s or its own time limit"
    with over_grpc(server) as address, pytest.raises(TowerTimeoutError, match=message):
        RemoteTower(address)([[IDS[0]]])
    server.fault, server.delay = None, 5.0
    monkeypatch.setattr(remote, "_PATIENCE", 0.5)
    with over_grpc(server) as address, pytest.raises(TowerTimeoutError, match=r"within 0\.5 s or its own"):
        RemoteTower(address)([[IDS[0]]])


def test_a_server_that_is_busy_is_told_from_one_that_takes_no_message_of_this_size(directory):
    server = ModelServer(directory)
    with over_grpc(server) as address:
        tower = RemoteTower(address)
        with pytest.raises(TowerError, match=r"is too large \(.*\)\. Send shorter histories") as caught:
            tower([["x" * (5 << 20)]])  # gRPC's servers take 4 MiB unless told otherwise
        assert not isinstance(caught.value, TowerBusyError)
        server.fault = grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(TowerBusyError, match="too much to do"):
            tower([[IDS[0]]])


def test_a_roll_out_to_vectors_of_another_shape_between_two_requests(directory, tmp_path):
    export_user_tower(
        tmp_path / "2",
        item_embeddings=toy.embeddings(NUM_ITEMS, DIMENSION + 1),
        user_tower=TOWER,
        item_ids=IDS,
        max_history=MAX_HISTORY,
        version="4567",
        warm_up_histories=[[1, 2]],
    )
    server = ModelServer(directory, tmp_path / "2")
    old, new = server.models
    histories = [[IDS[0]]] * (batching_limit() + 1)
    with over_grpc(server) as address:
        with pytest.raises(TowerError, match="vectors of different shapes"):
            RemoteTower(address)(histories, timeout=300)  # they answer by turns
        server.models, server.calls = [old, new, new, new], 0
        answer = RemoteTower(address)(histories, timeout=300)
    assert answer.user_vectors.shape == (len(histories), DIMENSION + 1)
    assert set(answer.version.tolist()) == {b"4567"}


@pytest.mark.parametrize("signature", ["serving_default", "string_ids"])
def test_over_rest_every_row_is_an_object(server, signature):
    histories = [[IDS[4], "never seen", IDS[9]], [IDS[0]]]
    if signature == "string_ids":
        rows = [one + [""] * (MAX_HISTORY - len(one)) for one in histories]
    else:
        rows = [[5, NUM_ITEMS + 1, 10, 0, 0], [1, 0, 0, 0, 0]]
    body = {"signature_name": signature, "instances": [{"item_ids": row} for row in rows]}
    with over_rest(server) as url:
        request = urllib.request.Request(
            f"{url}/v1/models/user_tower:predict", json.dumps(body).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=300) as response:
            predictions = json.load(response)["predictions"]
    for history, prediction in zip(histories, predictions, strict=True):
        np.testing.assert_allclose(prediction["user_vectors"], vector(history), atol=1e-5)
        assert prediction["version"] == VERSION
    assert [one["num_known"] for one in predictions] == [2, 1]


def test_the_model_server_s_configuration_is_one():
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (Path(__file__).parents[3] / "export" / "serving" / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.model_version_policy.latest.num_versions) == ("user_tower", 1)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The program of host.c, built against the libraries of the installed TensorFlow."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on the PATH")
    libraries, program = Path(tf.sysconfig.get_lib()), tmp_path_factory.mktemp("host") / "host"
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    if not all((libraries / name).is_file() for name in names):
        pytest.skip(f"{libraries} does not have {' and '.join(names)}")
    command = [
        *("gcc", "-Wall", "-Werror", str(Path(__file__).parent / "c_host" / "host.c"), "-o", str(program)),
        *(f"-I{tf.sysconfig.get_include()}", f"-L{libraries}", f"-Wl,-rpath,{libraries}"),
        *(f"-l:{name}" for name in names),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def operations(directory, signature):
    """The names that the host needs, out of the SavedModel's own description."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    definition = saved.meta_graphs[0].signature_def[signature]
    read = definition.inputs["item_ids"].name.split(":")[0]
    operation, vectors = definition.outputs["user_vectors"].name.split(":")
    _, version = definition.outputs["version"].name.split(":")
    return [read, operation, vectors, version]


@pytest.mark.long
@pytest.mark.parametrize("signature", ["serving_default", "string_ids"])
def test_a_c_program_without_python_answers_as_the_tower_does(host, directory, signature):
    history = [IDS[0], "never seen", IDS[39], IDS[6]]
    ids = [*history, ""] if signature == "string_ids" else ["1", "41", "40", "7", "0"]
    # The table of ids is read from the folder it lies in now, not from where it was written.
    done = subprocess.run(
        [host, directory, *operations(directory, signature), *ids],
        capture_output=True,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert done.returncode == 0, done.stderr
    version, *numbers = done.stdout.splitlines()
    assert version == VERSION
    np.testing.assert_allclose([float(number) for number in numbers], vector(history), atol=1e-5)
