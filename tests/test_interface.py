"""The notebook's face: frames in and out, the user's own ids, settings that act, runs that go on."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import causerec_tf as cr
from tests import reference

rng = np.random.default_rng(5)
USERS = np.repeat(np.arange(300), 8)
LOG = pl.DataFrame(
    {
        "who": USERS,
        "what": 10 * (10 * (USERS % 4) + rng.integers(10, size=len(USERS))) + 7,
        "at": np.tile(np.arange(8), 300),
    }
)
COLUMNS = {"user": "who", "item": "what", "time": "at"}
QUICK = {"embedding_dim": 8, "sampler": "full", "batch_size": 128, "epochs": 2, "progress": False}


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return cr.prepare(LOG, tmp_path_factory.mktemp("face") / "world", **COLUMNS, num_shards=2)


@pytest.fixture(name="run", scope="module")
def fixture_run(dataset):
    return cr.train(dataset, dataset.directory.parent / "run", **QUICK)


class Foreign:
    """A frame of another library, such as pandas: it has Arrow's C stream interface and no more."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", ["arrow", "foreign", "lazy", "file", "files"])
def test_whatever_holds_the_log_gives_the_same_dataset(dataset, tmp_path, kind):
    LOG.write_csv(tmp_path / "a.csv")
    source = {
        "arrow": lambda: pa.table(LOG.to_dict(as_series=False)),
        "foreign": lambda: Foreign(pa.table(LOG.to_dict(as_series=False))),
        "lazy": LOG.lazy,
        "file": lambda: tmp_path / "a.csv",
        "files": lambda: [str(tmp_path / "*.csv")],
    }[kind]()
    made = cr.prepare(source, tmp_path / "made", **COLUMNS, num_shards=2)
    assert made.fingerprint == dataset.fingerprint


def test_what_is_wrong_with_a_frame_is_said(tmp_path):
    with pytest.raises(cr.InputError, match=r"no column 'user_id', but who, what, at. Name yours with user="):
        cr.prepare(LOG, tmp_path / "a")
    row = pl.int_range(pl.len())
    with pytest.raises(cr.InputError, match=r"the data frame, row 2: column 'what' is empty"):
        marred = LOG.with_columns(pl.when(row != 2).then("what"))
        cr.prepare(marred, tmp_path / "a", **COLUMNS)
    with pytest.raises(cr.InputError, match=r"type Float64; ids are text or integers"):
        cr.prepare(LOG.with_columns(pl.col("what").cast(pl.Float64)), tmp_path / "a", **COLUMNS)
    assert not (tmp_path / "a").exists()


def test_the_order_of_rows_may_be_the_time(tmp_path):
    made = cr.prepare(LOG.drop("at"), tmp_path / "a", user="who", item="what", time=None)
    users = made.read("train")
    who = int(users.user_ids[0])
    own = LOG.filter(pl.col("who") == who)["what"].to_list()
    ids = made.item_ids()
    assert [int(ids[item - 1]) for item in users.items[: users.row_splits[1]]] == own


def test_the_answers_are_those_of_the_vectors(run):
    """Twin: inner products and a sort over what `user_vectors` and `item_vectors` give."""
    items = run.item_vectors()
    table = np.stack(items["vector"].to_numpy())
    ids = items["item_id"].to_list()
    histories = {"a": [7, 17, 27], "b": ["107", np.int64(117)], "c": [7, "no such item"]}
    users = run.user_vectors(histories)
    assert users["user_id"].to_list() == ["a", "b", "c"]
    vectors = np.stack(users["vector"].to_numpy())
    seen = [[ids.index(str(one)) + 1 for one in had if str(one) in ids] for had in histories.values()]
    for exclude in (True, False):
        answer = run.recommend(histories, k=5, exclude_seen=exclude)
        want = reference.top_k(vectors, table, 5, excluded=seen if exclude else None)
        for row, user in enumerate(histories):
            own = answer.filter(pl.col("user_id") == user)
            assert own["rank"].to_list() == [1, 2, 3, 4, 5]
            assert own["item_id"].to_list() == [ids[item - 1] for item in want[row]]
            np.testing.assert_allclose(
                own["score"], vectors[row] @ table[np.array(want[row]) - 1].T, rtol=1e-4
            )
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    similar = run.similar_items([7, "107"], k=4)
    for item in ("7", "107"):
        scores = unit @ unit[ids.index(item)]
        order = [one for one in np.argsort(-scores) if ids[one] != item][:4]
        own = similar.filter(pl.col("item_id") == item)
        assert own["similar_item_id"].to_list() == [ids[one] for one in order]
        np.testing.assert_allclose(own["score"], scores[order], rtol=1e-4)


def test_a_history_of_nothing_known_gets_the_most_popular(run):
    answer = run.recommend([[], ["no such item"], [7]], k=3)
    popular = run.dataset.item_ids()[:3]
    for user in (0, 1):
        own = answer.filter(pl.col("user_id") == user)
        assert own["item_id"].to_list() == popular and own["score"].is_nan().all()
    assert not answer.filter(pl.col("user_id") == 2)["score"].is_nan().any()


def test_histories_of_a_frame(run):
    frame = pl.DataFrame({"user_id": ["x", "y"], "history": [[7, 17], [107]]})
    assert run.recommend(frame, k=2).equals(run.recommend({"x": [7, 17], "y": [107]}, k=2))
    with pytest.raises(cr.InputError, match="have no column 'history', but user_id"):
        run.recommend(frame.drop("history"))
    with pytest.raises(cr.InputError, match="a history is '7': wanted a list"):
        run.recommend(["7"])
    with pytest.raises(cr.InputError, match="of type float: wanted text or an integer"):
        run.recommend([[7.0]])
    with pytest.raises(cr.InputError, match="'8' is not an item of"):
        run.similar_items([8])


def test_the_figures_are_those_of_the_record_and_a_finished_run_is_read_again(run, dataset):
    record = json.loads((run.directory / "metrics.json").read_text())
    figures = run.evaluate()
    assert figures["system"].to_list() == ["base", "pop"]
    assert figures["recall@20"][0] == record["test"]["recall@20"]
    written = (run.directory / "metrics.json").stat().st_mtime_ns
    again = cr.train(dataset, run.directory, **QUICK)
    assert (run.directory / "metrics.json").stat().st_mtime_ns == written
    assert again.item_vectors().equals(run.item_vectors())


class Last(cr.Baseline):
    """The last items of the vocabulary."""

    def fit(self, training):
        self.num_items = training.num_items

    def scores(self, users):
        return np.tile(np.arange(self.num_items, dtype=np.float32), (len(users), 1))


def test_both_policies_and_baselines_of_ones_own_stand_in_one_frame(run):
    figures = run.evaluate(exclude_seen=None, cutoffs=[3], baselines=["pop", "own_past"])
    rows = figures.select("system", "seen_items").rows()
    assert rows == [
        *[("base", "kept"), ("pop", "kept"), ("own_past", "kept")],
        *[("base", "left out"), ("pop", "left out")],
    ]
    assert {"ndcg@3", "coverage@3"} < set(figures.columns) and "ndcg@10" not in figures.columns
    for exclude_seen, place in ((False, 0), (True, 3)):
        alone = run.evaluate(exclude_seen=exclude_seen, cutoffs=[3])
        assert alone["ndcg@3"][0] == pytest.approx(figures["ndcg@3"][place])
        assert alone["users"][0] == figures["users"][place]
    mine = run.evaluate(cutoffs=[3], baselines={"last": Last()})
    assert mine["system"].to_list() == ["base", "last"]
    assert mine["coverage@3"][1] == pytest.approx(3 / run.dataset.num_items)
    with pytest.raises(cr.InputError, match="there is no baseline 'knn'"):
        run.evaluate(baselines=["knn"])


@pytest.mark.long
def test_a_run_goes_on_with_more_epochs_and_ends_as_one_that_had_them_from_the_start(dataset, tmp_path):
    more = QUICK | {"epochs": 4, "patience": 9}
    whole = cr.train(dataset, tmp_path / "whole", **more)
    cr.train(dataset, tmp_path / "first", **QUICK)
    on = cr.train(dataset, tmp_path / "first", **more, checkpoint_steps=5)
    assert on.item_vectors().equals(whole.item_vectors())
    records = [json.loads((one.directory / "metrics.json").read_text()) for one in (on, whole)]
    assert records[0]["by_epoch"] == records[1]["by_epoch"] and records[0]["epochs"] == 4
    assert records[0]["test"] == records[1]["test"]
    with pytest.raises(cr.InputError, match=r"--epochs=3, but .* has trained 4 already"):
        cr.train(dataset, tmp_path / "first", **QUICK | {"epochs": 3})
    with pytest.raises(cr.InputError, match=r"holds a run with other settings \(--seed=0 there, --seed=1"):
        cr.train(dataset, tmp_path / "first", **more, seed=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"colour": "red"}, "colour='red': there is no such setting"),
        ({"nearest_of": 4}, "--nearest_of=4 has no effect here"),
        ({"recipe": "best"}, "there is no recipe 'best': wanted one of quickstart, recommended"),
    ],
)
def test_what_cannot_be_asked_of_a_training(dataset, tmp_path, settings, message):
    with pytest.raises(cr.InputError, match=message):
        cr.train(dataset, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def composed(num_items, **changes):
    return cr.CauseRec(
        cr.ItemTower(num_items, 8),
        cr.MeanPoolingTower(8),
        cr.SampledSoftmax(cr.FullCatalogue()),
        **changes,
    )


@pytest.mark.long
def test_a_model_composed_by_hand_trains_on_whole_sequences(dataset, tmp_path):
    def model():
        return cr.CauseRec(
            cr.ItemTower(dataset.num_items, 8),
            cr.SASRecTower(8, max_history=20, dropout=0.1),
            cr.SampledSoftmax(cr.FullCatalogue()),
            max_history=20,
            whole_sequences=True,
        )

    run = cr.train(dataset, tmp_path / "run", model=model(), batch_size=16, epochs=2, progress=False)
    record = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    first, second = (epoch["losses"]["matching"] for epoch in record["by_epoch"])
    assert second < first
    again = cr.load_run(tmp_path / "run", model=model())
    np.testing.assert_array_equal(again.model.item_embeddings(), run.model.item_embeddings())
    with pytest.raises(cr.InputError, match="holds a run of another model"):
        other = model()
        other.whole_sequences = False
        cr.load_run(tmp_path / "run", model=other)


def test_a_model_that_does_not_fit_is_refused(dataset, tmp_path):
    model = composed(dataset.num_items)
    with pytest.raises(cr.InputError, match=r"tower='mean' with model=: the model is composed already"):
        cr.train(dataset, tmp_path / "run", model=model, tower="mean")
    with pytest.raises(cr.InputError, match=r"max_history=9, but the model was composed with 20"):
        cr.train(dataset, tmp_path / "run", model=model, max_history=9, progress=False)
    with pytest.raises(cr.InputError, match=r"the item tower has 9 items"):
        cr.train(dataset, tmp_path / "other", model=composed(9), progress=False)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: [cr.ItemTower(9, 8, similarity="cosine"), cr.MeanPoolingTower(8)], "vectors of length one"),
        (lambda: [cr.ItemTower(9, 8), cr.SASRecTower(8, max_history=5)], "reads 5 items of a history"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, message):
    with pytest.raises(cr.InputError, match=message):
        cr.CauseRec(*parts(), cr.SampledSoftmax())


def test_interests_are_replaced_where_the_tower_reads_them_and_losses_have_a_name_each():
    parts = cr.ItemTower(9, 8), cr.MeanPoolingTower(8), cr.SampledSoftmax()
    with pytest.raises(cr.InputError, match="CounterfactualInterests replaces interests, and MeanPooling"):
        cr.CauseRec(*parts, counterfactual=cr.CounterfactualInterests(embedding_dim=8))
    twice = [cr.WeightedLoss("co", 1.0, cr.contrast_with_observation)] * 2
    with pytest.raises(cr.InputError, match="wanted a name for each"):
        cr.CauseRec(*parts, losses=twice)
