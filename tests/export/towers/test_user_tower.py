import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

from causerec_tf.recipes import user_tower
from causerec_tf.settings import PRECISIONS, TOWERS, Settings
from export.store.bundle_errors import BundleError
from export.towers.served_tower import last_known
from export.towers.user_tower import export_user_tower
from tests.export import toy

NUM_ITEMS, DIMENSION, MAX_HISTORY = 40, 8, 5
IDS = toy.item_ids(NUM_ITEMS)
TABLE = toy.embeddings(NUM_ITEMS, DIMENSION)

# Runs where neither Keras nor this project can be imported, as on a model server.
FRESH_PROCESS = """
import json, sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("export", "causerec_tf", "tests"):
            raise AssertionError(name + " was imported")
        if name.split(".")[0] == "tf_keras":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import tensorflow as tf

directory, histories = sys.argv[1], json.loads(sys.argv[2])
loaded = tf.saved_model.load(directory)
width = loaded.signatures["string_ids"].structured_input_signature[1]["item_ids"].shape[1]
strings = [h + [""] * (width - len(h)) for h in histories]
examples = []
for history in histories:
    ids = tf.train.BytesList(value=[i.encode() for i in history])
    feature = {"item_ids": tf.train.Feature(bytes_list=ids)}
    examples.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
answers = {
    "string_ids": loaded.signatures["string_ids"](item_ids=tf.constant(strings)),
    "examples": loaded.signatures["examples"](examples=tf.constant(examples)),
}
print(json.dumps({name: {
    "user_vectors": a["user_vectors"].numpy().tolist(),
    "num_known": a["num_known"].numpy().tolist(),
    "version": [v.decode() for v in a["version"].numpy()],
} for name, a in answers.items()}))
"""


def export(directory, tower, table=TABLE, ids=IDS, histories=([1, 2, 3], [4])):
    export_user_tower(
        directory,
        item_embeddings=table,
        user_tower=tower,
        item_ids=ids,
        max_history=MAX_HISTORY,
        version="0123abcd",
        warm_up_histories=list(histories),
    )
    return directory


def direct(tower, histories):
    """The tower without padding or signatures: one history at a time, at its own length."""
    return np.concatenate([tower(tf.constant(TABLE[[h]]), tf.ones([1, len(h)], tf.bool)) for h in histories])


def padded(histories, fill=0):
    return tf.constant([h + [fill] * (MAX_HISTORY - len(h)) for h in histories], tf.int64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    tower = toy.MeanTower(DIMENSION)
    return tower, export(tmp_path_factory.mktemp("tower") / "1", tower)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """A tower to which the order matters, and its signatures."""
    tower = toy.OrderTower()
    return tower, tf.saved_model.load(str(export(tmp_path_factory.mktemp("ordered") / "1", tower)))


def test_a_fresh_process_without_keras_answers_as_the_tower_does(exported):
    tower, directory = exported
    histories = [[1, 2, 3, 40, 6], [7], [5, 5, 2]]
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    names = json.dumps([[IDS[i - 1] for i in history] for history in histories])
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(directory), names],
        env=environment,
        capture_output=True,
        text=True,
        cwd=directory,
        check=True,
    )
    for answer in json.loads(done.stdout).values():
        np.testing.assert_allclose(answer["user_vectors"], direct(tower, histories), atol=1e-5)
        assert answer["num_known"] == [5, 1, 3]
        assert answer["version"] == ["0123abcd"] * 3


def test_indices_answer_as_the_tower_does(exported):
    tower, directory = exported
    histories = [[1, 2, 3], [40]]
    loaded = tf.saved_model.load(str(directory))
    answer = loaded.signatures["serving_default"](item_ids=padded(histories))
    np.testing.assert_allclose(answer["user_vectors"], direct(tower, histories), atol=1e-5)


@pytest.mark.parametrize("unknown", [0, -1, NUM_ITEMS + 1, 2**62, -(2**62)])
def test_unknown_indices_are_as_if_deleted(ordered, unknown):
    tower, loaded = ordered
    answer = loaded.signatures["serving_default"](
        item_ids=tf.constant([[unknown, 3, unknown, 1, 2], [unknown] * 4 + [7]], tf.int64)
    )
    np.testing.assert_allclose(answer["user_vectors"], direct(tower, [[3, 1, 2], [7]]), atol=1e-5)
    assert answer["num_known"].numpy().tolist() == [3, 1]


def test_examples_keep_the_last_known_items_of_rows_of_any_length(ordered):
    tower, loaded = ordered
    names = [IDS[i - 1] for i in range(1, 9)]
    rows = [["never seen", *names, "nor this"], [names[0]], ["", "never seen", names[2]]]
    examples = []
    for row in rows:
        ids = tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode() for name in row]))
        feature = tf.train.Features(feature={"item_ids": ids})
        examples.append(tf.train.Example(features=feature).SerializeToString())
    examples.append(tf.train.Example().SerializeToString())
    answer = loaded.signatures["examples"](examples=tf.constant(examples))
    np.testing.assert_allclose(
        answer["user_vectors"][:3], direct(tower, [[4, 5, 6, 7, 8], [1], [3]]), atol=1e-5
    )
    assert answer["num_known"].numpy().tolist() == [5, 1, 1, 0]
    assert np.isfinite(answer["user_vectors"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_last_known_ids_equal_the_slow_twin(seed):
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 4, rng.integers(0, 12)).tolist() for _ in range(30)] + [[], [0, 0], [5] * 9]
    known = [[one for one in row if one][-MAX_HISTORY:] for row in rows]
    got = last_known(tf.ragged.constant(rows, tf.int64), MAX_HISTORY)
    np.testing.assert_array_equal(got, padded(known))
    assert last_known(tf.ragged.constant([[], [0]], tf.int64), 2).numpy().tolist() == [[0, 0], [0, 0]]


def test_one_long_row_makes_the_others_no_longer():
    """Of 200 rows one has 5,000 ids: no tensor on the way is as large as 200 rows of that."""
    lengths = [5_000, *[3] * 199]
    ids = tf.RaggedTensor.from_row_lengths(tf.ones([sum(lengths)], tf.int64), lengths)
    sizes = []

    def note(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        sizes.extend(int(np.prod(one.shape)) for one in outputs)

    op_callbacks.add_op_callback(note)
    try:
        got = last_known(ids, MAX_HISTORY)
    finally:
        op_callbacks.remove_op_callback(note)
    assert got.shape == (200, MAX_HISTORY) and len(sizes) > 5
    assert max(sizes) <= sum(lengths) + 1


def test_nothing_known_gives_zeros_and_not_nan(exported):
    _, directory = exported
    loaded = tf.saved_model.load(str(directory))
    answer = loaded.signatures["string_ids"](item_ids=tf.constant([[""] * 5, ["never seen"] * 5]))
    assert not np.any(answer["user_vectors"])
    assert answer["num_known"].numpy().tolist() == [0, 0]


def test_several_vectors_a_user(tmp_path):
    tower = toy.MeanTower(DIMENSION, num_vectors=2)
    loaded = tf.saved_model.load(str(export(tmp_path / "1", tower)))
    answer = loaded.signatures["serving_default"](item_ids=padded([[1, 2], []]))
    assert answer["user_vectors"].shape == (2, 2, DIMENSION)
    np.testing.assert_allclose(answer["user_vectors"][:1], direct(tower, [[1, 2]]), atol=1e-5)
    assert not np.any(answer["user_vectors"][1])


def test_every_output_has_the_batch_dimension_and_no_batch_is_too_small(exported):
    _, directory = exported
    loaded = tf.saved_model.load(str(directory))
    answer = loaded.signatures["serving_default"](item_ids=tf.zeros([0, MAX_HISTORY], tf.int64))
    assert {name: len(value) for name, value in answer.items()} == {
        "user_vectors": 0,
        "num_known": 0,
        "version": 0,
    }


def test_warm_up_requests_are_what_the_signatures_take(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    _, directory = exported
    loaded = tf.saved_model.load(str(directory))
    path = directory / "assets.extra" / "tf_serving_warmup_requests"
    signatures = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        loaded.signatures[request.model_spec.signature_name](**inputs)
        signatures.append(request.model_spec.signature_name)
    assert sorted(signatures) == ["examples"] * 2 + ["serving_default"] * 2 + ["string_ids"] * 2


def test_the_ids_travel_as_a_file_and_not_in_the_graph(exported):
    _, directory = exported
    asset = (directory / "assets" / "item_ids.txt").read_bytes().decode()
    assert asset.split("\n")[:-1] == IDS
    assert IDS[-1].encode() not in (directory / "saved_model.pb").read_bytes()


@pytest.mark.parametrize(
    "precision", [pytest.param(p, marks=[pytest.mark.long] * (p == "float32")) for p in PRECISIONS]
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name != "sasrec")) for name in TOWERS]
)
def test_every_tower_is_exported_in_every_precision(tmp_path, name, precision):
    tower = user_tower(
        Settings(
            **{"tower": name, "precision": precision, "num_blocks": 1},
            **{"embedding_dim": DIMENSION, "max_history": MAX_HISTORY},
        )
    )
    rng = np.random.default_rng(0)
    for variable in tower.trainable_variables:
        variable.assign_add(rng.normal(0.0, 0.3, variable.shape).astype(np.float32))
    histories = [rng.integers(1, NUM_ITEMS + 1, length).tolist() for length in (1, 2, 3, 5, 5, 5)]
    loaded = tf.saved_model.load(str(export(tmp_path / "1", tower, histories=histories)))
    vectors = loaded.signatures["serving_default"](item_ids=padded(histories))["user_vectors"].numpy()
    # bfloat16 has 8 significant bits, and is rounded elsewhere when one operation follows the other.
    atol = 1e-5 if precision == "float32" else 2.0**-5 * np.abs(vectors).max()
    padded_BL = padded(histories).numpy()
    np.testing.assert_allclose(
        vectors, tower(tf.constant(TABLE[padded_BL]), tf.constant(padded_BL != 0)), atol=atol
    )


class ForgetfulTower(toy.OrderTower):
    """Answers something else each time that it is traced or called."""

    calls = 0

    def call(self, concepts, mask):
        self.calls += 1
        return super().call(concepts, mask) + float(self.calls)


def test_a_tower_that_answers_otherwise_after_reloading_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"differ from the tower.s by"):
        export(tmp_path / "1", ForgetfulTower())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": TABLE[1:]}, r"wanted \[41, d\]"),
        ({"table": TABLE + 1}, "Row 0 of item_embeddings"),
        ({"table": np.where(TABLE[7, 2] == TABLE, np.nan, TABLE)}, "not finite"),
        ({"ids": [*IDS[:-1], IDS[0]]}, "an id twice"),
        ({"ids": [*IDS[:-1], ""]}, "is not empty"),
        ({"ids": [*IDS[:-1], "a\nb"]}, "newline"),
        ({"ids": [*IDS[:-1], "a\r"]}, "carriage return"),
        # Three requests each, of which TensorFlow Serving takes 1,000.
        ({"histories": [[1]] * 334}, "334 warm-up histories; TensorFlow Serving takes 333"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(BundleError, match=message):
        export(tmp_path / "1", toy.MeanTower(DIMENSION), **change)
    assert toy.files_of(tmp_path) == set()
