"""A tower that reads features: every signature, here and on a server, beside the twin."""

import numpy as np
import pytest
import tensorflow as tf

from export.index.index_options import IndexOptions
from export.publishing.publication import Model, fingerprint_of
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower
from export.tower_columns import TowerColumns
from export.towers import identity
from export.towers.remote import RemoteTower
from export.towers.requests import example, read_warm_up, tensors
from export.towers.user_tower import ServedContext, export_user_tower
from tests.export import featured, toy
from tests.export.featured import DIMENSION, IDS, MAX_HISTORY, TABLE, vector
from tests.export.model_server import ModelServer, over_grpc

VERSION = "0123abcd"
USER = {
    "country": "日本",
    "tags": ["vip", "no such", "new"],
    "age": 2.5,
    "about": "One two",
    "taste": [1.0, 2.0],
}
ROWS = [("never seen", {"kind": "buy"}), (IDS[3], {"kind": "buy", "rating": 1.5, "time": 12}), (IDS[4], {})]
# History, user, context, time; and how many values of user and request are known, and of all are not.
ASKED = [
    ((ROWS, USER, {"device": "desk"}, 9), (6, 1)),
    (([IDS[0]], None, None, 0), (0, 0)),
    (([], {"country": "nl"}, None, 0), (1, 0)),
    (([], None, None, 7), (0, 0)),
    (([(IDS[n], {"kind": "no such"}) for n in range(9)], {"country": "fr"}, None, 0), (0, 1 + MAX_HISTORY)),
    (([IDS[5], (IDS[6], {"rating": 4.0})], {"age": -1.0}, {"device": "watch"}, 0), (1, 1)),
]


def given_of(columns, history, user, context, time):
    events = [None if isinstance(one, str) else one[1] for one in history]
    return columns.given(user, context, time or None, events if any(events) else ())


def ids_of(history):
    return [one if isinstance(one, str) else one[0] for one in history]


def export(directory, place, **changes):
    directory.mkdir(exist_ok=True)
    stored = {"user/country": np.array([4, 3], np.int32)} | changes.pop("stored", {})
    reader = featured.reader(directory)
    columns = TowerColumns.described({"columns": reader.columns}, "")
    context = ServedContext(reader, [columns.given(USER, None, 5, [{"rating": 2}, None]), {}], stored)
    export_user_tower(
        place,
        item_embeddings=TABLE,
        user_tower=featured.FeaturedTower(),
        item_ids=IDS,
        max_history=MAX_HISTORY,
        version=VERSION,
        warm_up_histories=[[1, 2], [3]],
        context=context,
    )
    checksums.write(place, {})
    return place


@pytest.fixture(name="place", scope="module")
def fixture_place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tower")
    return export(directory / "vocabularies", directory / "1")


@pytest.fixture(name="columns", scope="module")
def fixture_columns(place):
    return TowerColumns.described(read_tower(place), "")


@pytest.fixture(name="loaded", scope="module")
def fixture_loaded(place):
    return tf.saved_model.load(str(place))


def wanted():
    return np.array(
        [
            vector(*asked) if (any(asked[:3]) and counts != (0, 0)) or asked[0] else np.zeros(DIMENSION)
            for asked, counts in ASKED
        ]
    )


def check(answer):
    np.testing.assert_allclose(answer["user_vectors"], wanted(), atol=1e-5)
    assert np.asarray(answer["num_known_values"]).tolist() == [counts[0] for _, counts in ASKED]
    assert np.asarray(answer["num_unknown_values"]).tolist() == [counts[1] for _, counts in ASKED]
    assert np.asarray(answer["num_known"]).tolist() == [2, 1, 0, 0, MAX_HISTORY, 2]


def test_the_description_says_what_a_client_needs(place):
    described = {f"{one['owner']}/{one['name']}": one for one in read_tower(place)["columns"]}
    assert list(described) == [
        *("user/country", "user/tags", "user/age", "user/about", "user/taste", "request/device"),
        *("event/kind", "event/rating", "event/time", "request/time"),
    ]
    assert described["user/tags"] == {
        **{"name": "tags", "owner": "user", "kind": "multi", "size": 100_000, "length": 2},
        **{"separator": ";", "values": ["new", "vip", "b2b"]},
    }


def test_tensors_are_answered_as_the_twin_does(loaded, columns):
    given = [given_of(columns, *asked) for asked, _ in ASKED]
    short = [ids_of(asked[0])[-MAX_HISTORY:] for asked, _ in ASKED]
    cut = [
        {name: value[-MAX_HISTORY:] if name.startswith("event_") else value for name, value in one.items()}
        for one in given
    ]
    check(loaded.signatures["with_features"](**tensors(short, MAX_HISTORY, columns, cut)))


def test_examples_are_answered_as_the_twin_does(loaded, columns):
    examples = [example(ids_of(asked[0]), columns, given_of(columns, *asked)) for asked, _ in ASKED]
    check(loaded.signatures["examples"](examples=tf.constant(examples)))


def test_ids_alone_are_answered_as_if_all_else_were_missing(loaded):
    histories = [[1, 2], [40], [], [9, 9, 3, 1]]
    padded = tf.constant([one + [0] * (MAX_HISTORY - len(one)) for one in histories], tf.int64)
    strings = tf.constant([[IDS[i - 1] if i else "" for i in row] for row in padded.numpy()])
    expected = [vector([IDS[i - 1] for i in one]) if one else np.zeros(DIMENSION) for one in histories]
    for signature, ids in (("serving_default", padded), ("string_ids", strings)):
        answer = loaded.signatures[signature](item_ids=ids)
        np.testing.assert_allclose(answer["user_vectors"], expected, atol=1e-5)
        assert set(answer) == {"user_vectors", "num_known", "version"}


def feature(**lists):
    kinds = {bytes: ("bytes_list", tf.train.BytesList), float: ("float_list", tf.train.FloatList)}
    kinds[int] = ("int64_list", tf.train.Int64List)
    made = {}
    for name, values in lists.items():
        field, kind = kinds[type(values[0])]
        made[name.replace("__", "/")] = tf.train.Feature(**{field: kind(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def test_what_does_not_stand_beside_the_ids_is_missing_and_counted(loaded):
    ids = [IDS[0].encode(), IDS[1].encode()]
    asked = [
        feature(item_ids=ids, event__kind=[b"buy"], event__time=[1, 2]),
        feature(item_ids=ids, user__taste=[1.0, 2.0, 3.0], user__country=[b"nl", b"de"]),
    ]
    answer = loaded.signatures["examples"](examples=tf.constant(asked))
    wanted = [
        vector([(IDS[0], {"time": 1}), (IDS[1], {"time": 2})]),
        vector([IDS[0], IDS[1]], {"country": "nl"}),
    ]
    np.testing.assert_allclose(answer["user_vectors"], wanted, atol=1e-5)
    assert answer["num_unknown_values"].numpy().tolist() == [1, 3 + 2]


def test_a_server_is_asked_for_the_same(place, columns):
    asked = [one for one, _ in ASKED]
    given = [given_of(columns, *one) for one in asked]
    with over_grpc(ModelServer(place)) as address:
        tower = RemoteTower(address, columns=columns)
        check(tower([ids_of(one[0]) for one in asked], 300, given)._asdict())
        tower.close()


def test_a_copy_under_another_version_and_the_warm_up_ask_every_signature(place, tmp_path):
    identity.copy_under(place, tmp_path / "2", "4567")
    assert read_tower(tmp_path / "2")["columns"] == read_tower(place)["columns"]
    assert read_warm_up(place / "assets.extra" / "tf_serving_warmup_requests") == [[IDS[0], IDS[1]], [IDS[2]]]
    records = list(tf.data.TFRecordDataset(str(place / "assets.extra" / "tf_serving_warmup_requests")))
    assert len(records) == 2 * 4


def test_a_copy_that_does_not_answer_its_version_is_refused(tmp_path, monkeypatch):
    place = tmp_path / "1"
    export_user_tower(
        place,
        item_embeddings=TABLE,
        user_tower=toy.MeanTower(DIMENSION),
        item_ids=IDS,
        max_history=MAX_HISTORY,
        version=VERSION,
        warm_up_histories=[],
    )
    checksums.write(place, {})

    def unchanged(tower, _old, _new):
        return (tower / "saved_model.pb").read_bytes()

    monkeypatch.setattr(identity, "_relabelled", unchanged)
    with pytest.raises(BundleError, match=r"Signature \w+ of .* does not answer version 4567"):
        identity.copy_under(place, tmp_path / "2", "4567")


def test_a_reader_that_makes_something_else_than_training_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"user/country of a warm-up history is 2 in training, and 4 as"):
        export(tmp_path, tmp_path / "1", stored={"user/country": np.array([2, 3], np.int32)})
    assert not (tmp_path / "1").exists()


def test_another_vocabulary_is_another_version(tmp_path):
    def fingerprint():
        context = ServedContext(featured.reader(tmp_path))
        model = Model(TABLE, featured.FeaturedTower(), TABLE[1:], IDS, MAX_HISTORY, context=context)
        return fingerprint_of(model, IndexOptions())

    first = fingerprint()
    assert fingerprint() == first
    featured.VALUES["request/device"].reverse()
    try:
        assert fingerprint() != first
    finally:
        featured.VALUES["request/device"].reverse()
