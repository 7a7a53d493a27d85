"""Only events of some kinds are targets, and targets are weighted: in batches, evaluation and runs."""

import json
from collections import Counter

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.comparison import check_protocols
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.sequences import SPLITS
from causerec_tf.data.target_counts import counts_of_targets
from causerec_tf.data.target_events import TargetEvents
from causerec_tf.data.windows import num_batches, training_batches
from causerec_tf.errors import InputError
from tests import reference_data

rng = np.random.default_rng(3)
SIZE = 900
LOG = pl.DataFrame(
    {
        "user_id": [f"u{user}" for user in rng.integers(60, size=SIZE)],
        "item_id": [f"i{item}" for item in rng.integers(25, size=SIZE)],
        "timestamp": np.arange(SIZE),
        "kind": rng.choice(["view", "cart", "buy"], SIZE, p=[0.6, 0.3, 0.1]),
        "value": [None if row % 5 == 0 else float(row % 7) for row in range(SIZE)],
        "number": np.arange(SIZE, dtype=float),
    }
)
SCHEMA = [
    {"name": "what", "owner": "event", "kind": "categorical", "column": "kind"},
    {"name": "worth", "owner": "event", "kind": "numeric", "column": "value"},
    {"name": "number", "owner": "event", "kind": "numeric"},
    {"name": "number", "owner": "request", "kind": "numeric"},
]
BOUGHT = TargetEvents("what", ("buy", "cart"))


@pytest.fixture(name="datasets", scope="module")
def fixture_datasets(tmp_path_factory):
    place = tmp_path_factory.mktemp("targets")
    return {
        protocol: cr.prepare(LOG, place / protocol, schema=SCHEMA, protocol=protocol, num_shards=2)
        for protocol in ("users", "leave_one_out")
    }


def users_of(protocol, split):
    """User -> ([row of the log], how many are history)."""
    rows = [(user, row, row) for row, user in enumerate(LOG["user_id"])]
    by_user = reference_data.sequences(rows)
    if protocol != "users":
        found = reference_data.records(by_user, protocol)[split]
        return {user: ([row for row, _ in events], history) for user, (events, history) in found.items()}
    return {
        user: ([row for row, _ in events], max(1, 8 * len(events) // 10))
        for user, events in by_user.items()
        if SPLITS[reference_data.split_and_shard(user, 0, 1)[0]] == split
    }


def is_target(row):
    return LOG["kind"][row] in ("buy", "cart")


def batches_of(dataset, **options):
    for batch in training_batches(dataset, batch_size=16, max_history=6, seed=0, epoch=0, **options):
        yield {key: value.numpy() for key, value in batch.items()}


@pytest.mark.parametrize("protocol", ["users", "leave_one_out"])
def test_training_has_a_window_for_each_target_and_all_kinds_in_its_history(datasets, protocol):
    dataset = datasets[protocol].for_training("train", BOUGHT)
    wanted = {
        row: events[max(0, place - 6) : place]
        for events, _ in users_of(protocol, "train").values()
        for place, row in enumerate(events)
        if place and is_target(row)
    }
    found = {}
    for batch in batches_of(dataset):
        for row, marks in zip(batch["request/number"], batch["event/number"], strict=True):
            found[int(row)] = [int(mark) for mark in marks if not np.isnan(mark)]
    assert found == wanted
    assert dataset.num_training_windows == len(wanted)
    assert num_batches(dataset, 16) == -(-len(wanted) // 16)
    assert {LOG["kind"][row] for history in found.values() for row in history} == {"view", "cart", "buy"}
    counts = Counter(LOG["item_id"][row] for row in wanted)
    assert counts_of_targets(dataset).tolist() == [0, *(counts[item] for item in dataset.item_ids())]


@pytest.mark.parametrize("protocol", ["users", "leave_one_out"])
def test_evaluation_has_the_targets_of_these_kinds_and_the_users_who_have_one(datasets, protocol):
    dataset, ids = datasets[protocol].for_training("train", BOUGHT), datasets[protocol].item_ids()
    for split in SPLITS[1:]:
        wanted = {}
        for user, (events, num_history) in users_of(protocol, split).items():
            targets = [row for row in events[num_history:] if is_target(row)]
            if num_history and targets:
                wanted[user] = (events[:num_history], targets)
        users = evaluation_users(dataset.read(split), 6)
        assert set(users.user_ids) == set(wanted) and wanted
        assert dataset.num_evaluation_users(split) == len(wanted) and dataset.measures(split)
        for place, user in enumerate(users.user_ids):
            history, targets = wanted[user]
            assert [ids[item - 1] for item in users.seen[place]] == [LOG["item_id"][row] for row in history]
            named = list(dict.fromkeys(LOG["item_id"][row] for row in targets))
            assert [ids[item - 1] for item in users.targets[place]] == named
            assert users.context["request/number"][place] == targets[0]


def test_a_weight_is_that_of_the_target_and_one_on_average(datasets):
    dataset = datasets["users"].for_training("train", TargetEvents("what", ("buy", "cart"), "worth"))
    rows, weights = [], []
    for batch in batches_of(dataset):
        assert batch["weight"].dtype == np.float32
        rows += batch["request/number"].astype(int).tolist()
        weights += batch["weight"].tolist()
    values = [LOG["value"][row] for row in rows]
    there = [value for value in values if value is not None]
    mean = sum(there) / len(there)
    wanted = [1.0 if value is None else value / mean for value in values]
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)
    assert np.mean(weights) == pytest.approx(1.0, rel=1e-6)


def test_whole_sequences_have_a_weight_for_each_target(datasets):
    dataset = datasets["users"].for_training("train", TargetEvents(weight_column="number"))
    for batch in batches_of(dataset, whole_sequences=True):
        scale = batch["weight"] / batch["request/number"]
        np.testing.assert_allclose(scale[batch["targets"] > 0], np.nanmax(scale), rtol=1e-5)
        assert not batch["weight"][batch["targets"] == 0].any()


def test_what_cannot_be_is_said(datasets):
    dataset = datasets["users"]
    for asked, message in (
        (TargetEvents("what", ("buy", "sold")), "target_events=sold: no training event has this event/what"),
        (
            TargetEvents("worth", ("buy",)),
            "event_kind=worth: the dataset has no such categorical .* It has what",
        ),
        (
            TargetEvents(weight_column="what"),
            "weight_column=what: .* numeric column of events. It has worth, n",
        ),
    ):
        with pytest.raises(InputError, match=message):
            dataset.for_training("train", asked)
    with pytest.raises(InputError, match="acts on windows with targets_ahead=1"):
        next(batches_of(dataset.for_training("train", BOUGHT), targets_ahead=2))
    with pytest.raises(InputError, match="--event_kind"):
        cr.train(dataset, "nowhere", target_events="buy", progress=False)
    with pytest.raises(
        InputError, match="--event_kind=what has no effect here: it acts with --target_events"
    ):
        cr.train(dataset, "nowhere", event_kind="what", progress=False)


def test_weights_below_zero_are_refused(tmp_path):
    log = LOG.with_columns(pl.col("value") - 1)
    dataset = cr.prepare(log, tmp_path / "made", schema=SCHEMA)
    with pytest.raises(InputError, match="weight_column=worth: the training targets have a weight of -1"):
        next(batches_of(dataset.for_training("train", TargetEvents(weight_column="worth"))))


@pytest.mark.long
def test_a_run_trains_and_is_measured_on_these_targets(datasets, tmp_path):
    run = cr.train(
        datasets["users"],
        tmp_path / "run",
        target_events="buy,cart",
        event_kind="what",
        weight_column="worth",
        embedding_dim=4,
        epochs=1,
        batch_size=64,
        max_history=6,
        progress=False,
    )
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert record["protocol"]["target_events"] == "buy,cart" and record["protocol"]["event_kind"] == "what"
    events = users_of("users", "test").values()
    measured = sum(any(map(is_target, rows[history:])) for rows, history in events if history < len(rows))
    assert record["protocol"]["test_users"] == measured
    assert run.dataset.target_events.target_events == ("buy", "cart")  # as it was loaded again
    with pytest.raises(InputError, match="event_kind=what, target_events=buy,cart"):
        check_protocols({"ours": record["protocol"], "others": datasets["users"].protocol})


def test_kinds_that_leave_nobody_to_measure_are_said(datasets, tmp_path):
    is_training = [reference_data.split_and_shard(user, 0, 1)[0] == 0 for user in LOG["user_id"]]
    log = LOG.with_columns(
        kind=pl.when(pl.Series(is_training) & (pl.col("timestamp") % 9 == 0))
        .then(pl.lit("rare"))
        .otherwise(pl.col("kind"))
    )
    dataset = cr.prepare(log, tmp_path / "made", schema=SCHEMA)
    with pytest.raises(
        InputError, match="no validation user with two events or more, a later one of target_ev"
    ):
        cr.train(dataset, tmp_path / "run", target_events="rare", event_kind="what", progress=False)
