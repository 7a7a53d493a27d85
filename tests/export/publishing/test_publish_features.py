"""A run with features becomes a bundle that answers as the run does, whatever a request gives."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

import causerec_tf as cr
import export
from causerec_tf import evaluation, measurement, runs
from causerec_tf.data.training_records import trained_items
from causerec_tf.feature_recipes import features_of
from causerec_tf.recipes import compose
from export.publishing.described_items import describe_items
from export.publishing.publish_run import publish_run
from export.publishing.updates import Update, update_index
from export.query import Query
from export.store.bundle_errors import BundleError
from export.store.layout import read_tower
from tests.features.worlds_with_features import with_larger_weights
from tests.pipelines import scripts
from tests.trainings import settings_of, train

pytestmark = pytest.mark.usefixtures("trusted_copies")

NUM_GENRES, PER_GENRE = 4, 8
SCHEMA = [
    {"name": "genre", "owner": "item", "kind": "categorical"},
    {"name": "title", "owner": "item", "kind": "text", "size": 50, "length": 4},
    {"name": "country", "owner": "user", "kind": "categorical", "missing": "c0"},
    {"name": "tastes", "owner": "user", "kind": "multi", "length": 2},
    {"name": "age", "owner": "user", "kind": "numeric"},
    {"name": "about", "owner": "user", "kind": "text", "size": 40, "length": 3},
    {"name": "stars", "owner": "event", "kind": "numeric", "missing": 3.0},
    {"name": "how", "owner": "event", "kind": "categorical"},
    {"name": "gap", "owner": "event", "kind": "gap"},
    {"name": "since", "owner": "event", "kind": "age"},
    {"name": "device", "owner": "request", "kind": "categorical"},
    {"name": "hour", "owner": "request", "kind": "hour"},
]
# Each column is traced many times; what `tests/test_raw_values.py` reads by itself is long here.
QUICK = ("genre", "title", "country", "age", "stars", "gap", "device")
USERS = 240


def user(number):
    return {
        "user_id": f"u{number}",
        "country": None if number % 7 == 0 else f"c{number % NUM_GENRES}",
        "tastes": [f"t{number % 3}", f"t{number % 5}"][: number % 3],
        "age": None if number % 4 == 0 else float(20 + number % 30),
        "about": ["", "likes A and b", "nothing", "日本 and B"][number % 4],
    }


def events(number):
    rng = np.random.default_rng(number)
    places = rng.permutation(PER_GENRE - 1)[:5]
    return [
        {
            "user_id": f"u{number}",
            "item_id": f"g{number % NUM_GENRES}i{item}",
            "timestamp": 1_400_000_000 + 5_000 * place + number,
            "stars": None if rng.random() < 0.2 else float(rng.integers(1, 6)),
            "how": [None, "view", "buy"][int(rng.integers(3))],
            "device": ["phone", "desk", None][int(rng.integers(3))],
        }
        for place, item in enumerate(places)
    ]


@pytest.fixture(name="tower", scope="module", params=["mean", pytest.param("sasrec", marks=pytest.mark.long)])
def fixture_tower(request):
    return request.param


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tower, tmp_path_factory):
    items = pl.DataFrame(
        {"item_id": f"g{genre}i{item}", "genre": f"genre {genre}", "title": f"Part {item} of {genre}"}
        for genre in range(NUM_GENRES)
        for item in range(PER_GENRE)
    )
    return cr.prepare(
        pl.DataFrame([event for number in range(USERS) for event in events(number)]),
        tmp_path_factory.mktemp("features") / "world",
        num_shards=2,
        schema=[one for one in SCHEMA if tower != "mean" or one["name"] in QUICK],
        item_table=items,
        user_table=pl.DataFrame([user(number) for number in range(USERS)], strict=False),
    )


TOWERS = {
    "mean": {"max_history": 4, "history_dropout": 0.2, "similarity": "cosine"},
    "sasrec": {"max_history": 4, "history_dropout": 0.2, "tower": "sasrec"},
}


@pytest.fixture(name="run", scope="module")
def fixture_run(tower, dataset, tmp_path_factory):
    """A run as it would be loaded; its weights are drawn, so that each column tells."""
    directory = tmp_path_factory.mktemp("run") / tower
    settings = settings_of(directory, dataset, **TOWERS[tower])
    model = compose(settings, dataset.num_items, features_of(dataset))
    model.know_items_of(dataset.num_trained_items, trained_items(dataset))
    return runs.TrainedRun(with_larger_weights(model), settings, dataset, True, directory)


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(run, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("bundle") / "b"
    publish_run(run, bundle, index_method="exact")
    return bundle


def raw_of(run, owner, values):
    """Those of the values that the dataset has columns for."""
    names = {one.column.name for one in run.dataset.fitted_columns(owner)}
    return {name: value for name, value in values.items() if name in names}


@pytest.fixture(name="retriever", scope="module")
def fixture_retriever(bundle):
    return export.Retriever.open(bundle)


def test_requests_are_answered_as_evaluation_measures(run, retriever):
    """The raw values of users of validation, by hand, beside the stored ones that evaluation encodes."""
    users = measurement.users_of(run.dataset, "validation", run.model.max_history, exclude_seen=False)
    vectors = evaluation.user_vectors(run.model, users.history, users.context)
    queries, wanted, ids = [], [], run.dataset.item_ids()
    for place, user_id in enumerate(users.user_ids[:25]):
        log = events(int(user_id[1:]))
        cut = len(users.seen[place])
        asked = log[cut]
        row = raw_of(run, "user", user(int(user_id[1:])))
        rows = [
            {"id": one["item_id"], "time": one["timestamp"]} | raw_of(run, "event", one) for one in log[:cut]
        ]
        queries.append(Query(rows, 8, user=row, context={"device": asked["device"]}, time=asked["timestamp"]))
        scores = run.model.item_vectors() @ vectors[place]
        seen = {one["item_id"] for one in log[:cut]}
        wanted.append([ids[n] for n in np.argsort(-scores, kind="stable") if ids[n] not in seen][:8])
    assert len(queries) == len(wanted) > 10
    answers = retriever.recommend(queries)
    assert [one.items for one in answers] == wanted
    assert {one.num_unknown_values for one in answers} == {0}


def test_all_items_of_the_dataset_are_in_the_index(run, bundle, retriever):
    catalogue = retriever.catalogue
    assert catalogue.num_items == run.dataset.num_items
    described = [one["name"] for one in read_tower(bundle / "user_tower" / "1")["columns"]]
    moments = ("gap", "since", "hour")  # they are made of the times
    columns = [
        one.column.name
        for owner in ("user", "event", "request")
        for one in run.dataset.fitted_columns(owner)
        if one.column.name not in moments
    ]
    assert set(columns) <= set(described) and set(described) - set(columns) == {"time"}


def test_a_user_without_a_history_is_answered_by_what_is_known(run, retriever):
    [known, nobody] = retriever.recommend([Query([], 5, user={"country": "c2"}), Query([], 5)])
    assert (known.fallback, nobody.fallback) == (False, True)
    context = {"user/country": np.array([run_code(run, "c2")], np.int32)}
    vector = evaluation.user_vectors(run.model, np.zeros([1, 4], np.int32), context)[0]
    ids = run.dataset.item_ids()
    best = [ids[n] for n in np.argsort(-(run.model.item_vectors() @ vector), kind="stable")][:5]
    assert known.items == best


def run_code(run, value):
    [fitted] = [one for one in run.dataset.fitted_columns("user") if one.column.name == "country"]
    return fitted.vocabulary.read_text().split("\n").index(value) + 2


def test_new_items_are_found_by_what_their_table_says(run, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "b")
    ids, index = run.dataset.item_ids(), run.dataset.item_features()
    known = ids[0]
    genre = known.split("i")[0].removeprefix("g")
    lines = [
        {"sku": "fresh", "genre": f"genre {genre}", "title": f"Part 9 of {genre}", "label": "Fresh"},
        {"sku": "odd", "genre": "genre 99", "title": None, "label": None},
        {"sku": known, "genre": f"genre {genre}", "title": None, "label": "Known"},
    ]
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    described = describe_items(run, tmp_path / "b", path, item_column="sku", name_column="label")
    assert (described.num_known, described.update.upsert_names) == (1, ["Fresh", "Known"])
    assert (described.left_out, described.update.upsert_ids) == (("odd",), ["fresh", known])
    assert described.unknown == {"item/genre": 1}
    assert described.missing == {"item/genre": 0, "item/title": 2}
    # The twin adds rows of the encoders' tables, by hand.
    tower = run.model.item_tower
    tables = {name: one.table.numpy() for name, one in tower.features.encoders.items()}
    words = {int(tf.strings.to_hash_bucket_fast(word, 50)) + 1 for word in ("part", "9", "of", genre)}
    wanted = tables["title"][sorted(words)].mean(axis=0) + tables["genre"][index["genre"][1]]
    if tower.has_unit_length:
        wanted = wanted / np.linalg.norm(wanted)
    np.testing.assert_allclose(described.update.upsert_vectors[0], wanted, atol=1e-5)
    made = update_index(tmp_path / "b", described.update)
    assert made.added == 1
    retriever = export.Retriever.open(tmp_path / "b")
    assert retriever.name_of("fresh") == "Fresh"
    assert not retriever.similar(["fresh"], 5)[0].unknown
    assert "fresh" in retriever.recommend([Query([known], NUM_GENRES * PER_GENRE + 2)])[0].items


def test_a_bundle_of_another_run_is_refused(run, bundle, tmp_path):
    other = np.random.default_rng(0).normal(size=(run.dataset.num_items, 16)).astype(np.float32)
    update_index(
        shutil.copytree(bundle, tmp_path / "b"), Update(run.dataset.item_ids(), other, rebuild=False)
    )
    frame = pl.DataFrame({"id": ["x"], "genre": ["genre 1"], "title": ["a"]})
    with pytest.raises(BundleError, match="it was published from another run"):
        describe_items(run, tmp_path / "b", frame)
    with pytest.raises(cr.InputError, match="has no column 'genre'"):
        describe_items(run, bundle, pl.DataFrame({"id": ["x"], "title": ["a"]}))


def test_ids_alone_are_answered_as_the_run_answers_them(run, retriever):
    """With what the schema puts where a value is missing, in both."""
    ids = run.dataset.item_ids()
    histories = [[ids[3], ids[9]], [ids[0]]]
    vectors = evaluation.user_vectors(run.model, np.array([[4, 10, 0, 0], [1, 0, 0, 0]], np.int32))
    answers = retriever.recommend(histories, 8, exclude_seen=False)
    for vector, answer in zip(vectors, answers, strict=True):
        scores = run.model.item_vectors() @ vector
        assert answer.items == [ids[n] for n in np.argsort(-scores, kind="stable")][:8]
        assert answer.num_unknown_values == 0


@pytest.mark.long
def test_the_script_adds_items_by_the_run(tower, dataset, tmp_path):
    train(tmp_path / "run", dataset, epochs=1, **TOWERS[tower])
    publish_run(runs.load_trained(tmp_path / "run"), tmp_path / "b", index_method="exact")
    (tmp_path / "new.csv").write_text("sku,genre,title\nfresh,genre 1,Part 9 of 1\nodd,genre 99,\n")
    place = [f"--bundle={tmp_path / 'b'}", f"--upsert={tmp_path / 'new.csv'}"]
    with_run = [*place, f"--run={tmp_path / 'run'}", "--item_column=sku"]
    done = scripts.run("export/update_index.py", *with_run)
    assert done.returncode == 0, done.stderr
    for line in (
        "item/genre: 0 of 2 missing, 1 values that training never saw",
        "1 items are left out, such as 'odd': nothing is known of them",
        "1 items to upsert (1 new), 0 to delete",
    ):
        assert line in done.stdout, done.stdout
    assert export.Retriever.open(tmp_path / "b").catalogue.rows(["fresh"]).size == 1
    scripts.assert_refused(
        scripts.run("export/update_index.py", *place, "--item_column=sku"), "no effect without --run"
    )
    scripts.assert_refused(
        scripts.run("export/update_index.py", place[0], f"--run={tmp_path / 'run'}", "--rebuild"),
        "--run encodes the items of --upsert=TABLE; give both",
    )
