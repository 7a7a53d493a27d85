"""Columns of users, events and requests through sorting, filtering and splitting into batches; and leaks.

Every event has a number of its own as a value, so that a batch tells which events it was made of.
"""

import functools
import math

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf.data.columns.feature_tables import FeatureTable
from causerec_tf.data.columns.features_of_log import Features
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import Log
from causerec_tf.data.preparation import prepare
from causerec_tf.data.sequences import SPLITS, open_dataset
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.training_records import read_training
from causerec_tf.data.windows import training_batches
from causerec_tf.errors import InputError
from causerec_tf.schema import schema_of
from tests import reference_data
from tests.data.splits import test_protocols as protocols

CASES = ("users", *protocols.CASES)
HELD_OUT = [case for case in CASES if case != "none"]
SCHEMA = schema_of(
    [
        {"name": "age", "owner": "user", "kind": "numeric"},
        {"name": "tags", "owner": "user", "kind": "multi", "length": 3},
        {"name": "mark", "owner": "event", "kind": "numeric"},
        {"name": "device", "owner": "event", "kind": "categorical"},
        {"name": "mark", "owner": "request", "kind": "numeric"},
        {"name": "device", "owner": "request", "kind": "categorical", "missing": "none"},
        {"name": "gap", "owner": "event", "kind": "gap"},
    ]
)
L = 4


def rows_of(case, seed=3):
    return protocols.rows_of("leave_one_out" if case == "users" else case, seed)


def settings_of(case):
    return ProtocolSettings() if case == "users" else protocols.settings_of(case)


def device(number):
    return None if number % 7 == 0 else f"d{number % 3}"


def write(folder, case, rows, num_test, *, marks=None, devices=None, filters=None, name="shop"):
    """A dataset whose event number i has the mark i, or that of `marks`, and a device by it."""
    log = protocols.log_of(rows, num_test)
    marks = list(range(len(rows))) if marks is None else marks
    devices = [device(number) for number in range(len(rows))] if devices is None else devices
    numbers = pl.Series(marks, dtype=pl.Float64)
    texts = pl.Series(devices, dtype=pl.String)
    events = log.events.with_columns(
        numbers.alias("event/mark"),
        texts.alias("event/device"),
        numbers.alias("request/mark"),
        texts.fill_null("none").alias("request/device"),
    )
    users = sorted({row[0] for row in rows})
    table = pl.DataFrame(
        {
            "id": users[3:],  # three users have no row
            "user/age": [float(len(user)) for user in users[3:]],
            "user/tags": [sorted(set(user))[:3] for user in users[3:]],
        }
    )
    return prepare(
        Log(events, times.AS_GIVEN, len(rows), {}, ("log.csv",)),
        folder / name,
        protocol=settings_of(case),
        num_shards=2,
        features=Features(SCHEMA, {"user": FeatureTable("user", table)}),
        filters=filters or Filters(),
    )


@pytest.fixture(name="dataset_of", scope="module")
def fixture_dataset_of(tmp_path_factory):
    """Case -> its dataset, made once."""
    place = tmp_path_factory.mktemp("cases")
    return functools.cache(lambda case: write(place, case, *rows_of(case), name=case))


def twin(case, rows, num_test):
    """Split -> user -> ([(number of the event, time)], how many are history)."""
    numbered = [(user, number, moment) for number, (user, _, moment) in enumerate(rows)]
    if case != "users":
        return protocols.twin(case, numbered, num_test)
    found = {split: {} for split in SPLITS}
    for user, events in reference_data.sequences(numbered).items():
        split = SPLITS[reference_data.split_and_shard(user, 0, 1)[0]]
        found[split][user] = (events, max(1, 8 * len(events) // 10))
    return found


def values_of(dataset, key):
    owner, name = key.split("/")
    (fitted,) = (one for one in dataset.fitted_columns(owner) if one.column.name == name)
    return fitted.vocabulary.read_text(encoding="utf-8").split("\n")[:-1]


def code(values, value):
    return 0 if value is None else values.index(value) + 2 if value in values else 1


@pytest.mark.parametrize("case", CASES)
def test_records_have_the_values_of_their_events_and_users(dataset_of, case):
    rows, num_test = rows_of(case)
    dataset, wanted = dataset_of(case), twin(case, rows, num_test)
    known = {user: ids for ids, user in enumerate(sorted({row[0] for row in rows}))}
    devices, tags = values_of(dataset, "event/device"), values_of(dataset, "user/tags")
    for split in SPLITS:
        read = dataset.read(split)
        assert sorted(read.user_ids) == sorted(wanted[split])
        for place, user in enumerate(read.user_ids):
            part = slice(read.row_splits[place], read.row_splits[place + 1])
            marks = [number for number, _ in wanted[split][user][0]]
            for key in ("event/mark", "request/mark"):
                assert read.columns[key][part].tolist() == marks
            found = [code(devices, device(mark)) for mark in marks]
            assert read.columns["event/device"][part].tolist() == found
            assert read.seconds[part].tolist() == [moment for _, moment in wanted[split][user][0]]
            has_row = known[user] >= 3
            age = read.columns["user/age"][place]
            assert age == len(user) if has_row else math.isnan(age)
            own = list(dict.fromkeys(code(tags, tag) for tag in sorted(set(user))[:3])) if has_row else []
            assert read.columns["user/tags"][place].tolist() == own + [0] * (3 - len(own))


@pytest.mark.parametrize("case", CASES)
def test_only_training_events_are_fitted(tmp_path, dataset_of, case):
    rows, num_test = rows_of(case)
    of_twin = twin(case, rows, num_test)["train"]
    trained = [number for events, _ in of_twin.values() for number, _ in events]
    dataset = dataset_of(case)
    (mark,) = (one for one in dataset.fitted_columns("event") if one.column.name == "mark")
    mean = math.fsum(trained) / len(trained)
    assert mark.mean == pytest.approx(mean, rel=1e-9)
    assert mark.std == pytest.approx(
        math.sqrt(math.fsum((one - mean) ** 2 for one in trained) / len(trained)), rel=1e-9
    )
    users = sorted({row[0] for row in rows})[3:]
    ages = [len(user) for user, (events, _) in of_twin.items() if user in users for _ in events]
    (age,) = (one for one in dataset.fitted_columns("user") if one.column.name == "age")
    assert age.mean == pytest.approx(sum(ages) / len(ages), rel=1e-9)
    # Values that held-out events alone have change nothing that is fitted.
    is_trained = set(trained)
    marks = [number if number in is_trained else 1e6 + number for number in range(len(rows))]
    devices = [device(one) if one in is_trained else "held out" for one in range(len(rows))]
    other = write(tmp_path, case, rows, num_test, marks=marks, devices=devices, name="other")
    assert other.info["schema"] == dataset.info["schema"]
    for key in ("event/device", "request/device"):
        assert values_of(other, key) == values_of(dataset, key)


@pytest.mark.parametrize(
    ("whole", "ahead", "train_on"),
    [
        (False, 1, "train"),
        (False, 3, "before_test"),
        (True, 1, "before_test"),
        (True, 3, "train"),
        pytest.param(False, 1, "before_test", marks=pytest.mark.long),
        pytest.param(False, 3, "train", marks=pytest.mark.long),
        pytest.param(True, 1, "train", marks=pytest.mark.long),
        pytest.param(True, 3, "before_test", marks=pytest.mark.long),
    ],
)
def test_batches_have_the_columns_of_their_own_events(dataset_of, whole, ahead, train_on):
    rows, _ = rows_of("leave_one_out")
    dataset = dataset_of("leave_one_out").for_training(train_on)
    ids, devices = dataset.item_ids(), values_of(dataset, "request/device")
    at, num_rows = {}, 0
    for events in protocols.ordered([(u, n, m) for n, (u, _, m) in enumerate(rows)], {}).values():
        left_out = 0 if len(events) < 3 else 2 if train_on == "train" else 1
        for place, (number, _) in enumerate(events[: len(events) - left_out]):
            at[number] = (place, [one for one, _ in events[: len(events) - left_out]])
    users = sorted({row[0] for row in rows})

    def check_event(number, item, moment):
        assert ids[item - 1] == rows[int(number)][1]
        assert moment == rows[int(number)][2]
        assert int(number) in at  # nothing that is held out

    for batch in training_batches(
        dataset, batch_size=16, max_history=L, seed=1, epoch=0, targets_ahead=ahead, whole_sequences=whole
    ):
        batch = {key: value.numpy() for key, value in batch.items()}
        size = len(batch["history"])
        shapes = {"user/age": (size,), "user/tags": (size, 3), "time": (size, L), "event/mark": (size, L)}
        shapes |= {"event/device": (size, L)}
        of_target = (size, L) if whole else (size,)
        shapes |= dict.fromkeys(("request/mark", "request/device", "request_time"), of_target)
        assert {key: batch[key].shape for key in shapes} == shapes
        assert set(batch) - set(shapes) == {"history", "targets" if whole else "target"}
        assert batch["time"].dtype == batch["request_time"].dtype == np.int64
        assert batch["event/device"].dtype == batch["user/tags"].dtype == np.int32
        for row in range(size):
            num_rows += 1
            items = batch["history"][row]
            length = int((items > 0).sum())
            marks = batch["event/mark"][row]
            for place in range(length):
                check_event(marks[place], items[place], batch["time"][row, place])
            assert np.isnan(marks[length:]).all()
            assert not batch["time"][row, length:].any() and not batch["event/device"][row, length:].any()
            last, own = at[int(marks[length - 1])]
            assert marks[:length].tolist() == own[max(0, last + 1 - length) : last + 1]
            user = rows[int(marks[0])][0]
            has_row = users.index(user) >= 3
            age = batch["user/age"][row]
            assert age == len(user) if has_row else math.isnan(age)
            asked = batch["request/mark"][row]
            targets = zip(
                asked[:length] if whole else [asked],
                batch["targets"][row, :length] if whole else [batch["target"][row]],
                batch["request_time"][row, :length] if whole else [batch["request_time"][row]],
                batch["request/device"][row, :length] if whole else [batch["request/device"][row]],
                marks[:length] if whole else marks[length - 1 : length],
                strict=True,
            )
            for number, item, moment, named, behind in targets:
                check_event(number, item, moment)
                assert 1 <= at[int(number)][0] - at[int(behind)][0] <= ahead
                assert named == code(devices, device(int(number)) or "none")
            if whole:
                assert np.isnan(asked[length:]).all() and not batch["request_time"][row, length:].any()
    assert num_rows


@pytest.mark.parametrize("case", HELD_OUT)
def test_the_context_of_evaluation_is_what_is_known_when_the_list_is_asked_for(dataset_of, case):
    rows, num_test = rows_of(case)
    dataset, wanted = dataset_of(case), twin(case, rows, num_test)
    for split in SPLITS[1:]:
        users = evaluation_users(dataset.read(split), L)
        assert len(users) > (0 if case == "users" else 3)
        context = users.context
        for place, user in enumerate(users.user_ids):
            events, num_history = wanted[split][user]
            last = events[:num_history][-L:]
            marks, moments = context["event/mark"][place], context["time"][place]
            assert marks[: len(last)].tolist() == [number for number, _ in last]
            assert moments.tolist() == [moment for _, moment in last] + [0] * (L - len(last))
            assert np.isnan(marks[len(last) :]).all()
            first_number, first_moment = events[num_history]
            if case == "time_all":
                assert np.isnan(context["request/mark"][place]) and context["request/device"][place] == 0
                assert context["request_time"][place] == {"validation": 2, "test": 5}[split]
            else:
                assert context["request/mark"][place] == first_number
                assert context["request_time"][place] == first_moment
        part = users.part(1, 3)
        some, places = users.only_targets(np.arange(len(users.targets.items)) % 2 == 0)
        for key, values in context.items():
            np.testing.assert_array_equal(part.context[key], values[1:3])
            np.testing.assert_array_equal(some.context[key], values[places])


@pytest.mark.parametrize("case", HELD_OUT)
def test_nothing_after_the_history_but_the_request_itself_is_in_the_context(tmp_path, dataset_of, case):
    """The values of all events change that are no user's history or first target."""
    rows, num_test = rows_of(case)
    dataset, wanted = dataset_of(case), twin(case, rows, num_test)
    for split in SPLITS[1:]:
        kept = set()
        for events, num_history in wanted[split].values():
            asked = 0 if case == "time_all" else 1
            kept |= {number for number, _ in events[: num_history + asked]}
        kept |= {number for events, _ in wanted["train"].values() for number, _ in events}
        changed = [number for number in range(len(rows)) if number not in kept]
        assert changed or case == "leave_one_out"
        marks = [number if number in kept else -1e6 for number in range(len(rows))]
        devices = [device(one) if one in kept else "changed" for one in range(len(rows))]
        other = write(tmp_path, case, rows, num_test, marks=marks, devices=devices, name=f"other-{split}")
        users, again = (evaluation_users(one.read(split), L) for one in (dataset, other))
        assert users.context.keys() == again.context.keys()
        for key, values in users.context.items():
            np.testing.assert_array_equal(again.context[key], values, err_msg=key)


def test_filters_keep_the_values_beside_their_events(tmp_path):
    rows, _ = rows_of("users")
    filters = Filters(min_user_count=3, min_item_count=4, max_user_count=6)
    dataset = write(tmp_path, "users", rows, {}, filters=filters)
    numbered = {}
    ids = dataset.item_ids()
    for split in SPLITS:
        read = dataset.read(split)
        for place, user in enumerate(read.user_ids):
            part = slice(read.row_splits[place], read.row_splits[place + 1])
            numbered[user] = read.columns["event/mark"][part].astype(int).tolist()
            assert [rows[number] for number in numbered[user]] == [
                (user, ids[item - 1], moment)
                for item, moment in zip(read.items[part], read.timestamps[part], strict=True)
            ]
    assert max(map(len, numbered.values())) == 6 and len(numbered) > 5


def test_what_is_trained_on_before_the_test_has_its_columns(dataset_of):
    rows, _ = rows_of("given")
    dataset = dataset_of("given").for_training("before_test")
    read = read_training(dataset)
    assert len(read.columns["event/mark"]) == len(read.items)
    assert len(read.columns["user/tags"]) == len(read.user_ids)
    ids = dataset.item_ids()
    for number, item in zip(read.columns["event/mark"], read.items, strict=True):
        assert rows[int(number)][1] == ids[item - 1]


def test_tensorflow_datasets_reads_the_columns(dataset_of):
    import tensorflow_datasets as tfds

    dataset = dataset_of("users")
    builder = tfds.builder_from_directory(str(dataset.directory))
    assert set(builder.info.features) == {"user_id", "items", "timestamps", "user", "event", "request"}
    read = dataset.read("train")
    by_user = {one["user_id"].numpy().decode(): one for one in builder.as_dataset("train")}
    assert set(by_user) == set(read.user_ids)
    for place, user in enumerate(read.user_ids):
        part = slice(read.row_splits[place], read.row_splits[place + 1])
        for owner, name in (("event", "mark"), ("event", "device"), ("request", "device")):
            np.testing.assert_array_equal(
                by_user[user][owner][name].numpy(), read.columns[f"{owner}/{name}"][part]
            )
        tags = read.columns["user/tags"][place]
        assert by_user[user]["user"]["tags"].numpy().tolist() == tags[tags > 0].tolist()


LOG = "user_id,item_id,timestamp,stars,shop\n" + "".join(
    f"u{number % 20},i{number % 7},{1_700_000_000_000 + 1000 * number},{number % 5},s{number % 3}\n"
    for number in range(120)
)
STARS = {"name": "stars", "owner": "event", "kind": "numeric"}
SHOP = {"name": "where", "owner": "request", "kind": "categorical", "column": "shop"}


def test_a_log_in_a_file_a_frame_and_json_lines_are_one(tmp_path):
    (tmp_path / "a.csv").write_text(LOG)
    frame = pl.read_csv(tmp_path / "a.csv")
    frame.write_ndjson(tmp_path / "a.jsonl")
    schema = [STARS, SHOP, {"name": "hour", "owner": "request", "kind": "hour"}]
    made = [
        cr.prepare(source, tmp_path / str(place), schema=schema, num_shards=1)
        for place, source in enumerate((tmp_path / "a.csv", frame, tmp_path / "a.jsonl"))
    ]
    assert len({one.fingerprint for one in made}) == 1
    # Milliseconds become seconds in batches, and stay as they are in records.
    batch = next(iter(training_batches(made[0], batch_size=8, max_history=3, seed=0, epoch=0)))
    assert batch["request_time"].numpy().min() >= 1_700_000_000
    assert batch["request_time"].numpy().max() < 1_700_000_200
    assert made[0].read("train").timestamps.min() >= 1_700_000_000_000


def test_what_is_wrong_with_columns_of_the_log_is_said_or_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(LOG + "u1,i1,1700000000000,many,s1\n")
    with pytest.raises(InputError, match=r"a.csv, line 122: column 'stars' holds 'many'. event/stars is num"):
        cr.prepare(path, tmp_path / "made", schema=[STARS])
    made = cr.prepare(path, tmp_path / "made", schema=[STARS], on_bad_row="skip")
    assert made.info["source"]["unreadable"] == {"event/stars": 1}
    assert made.info["source"]["rows_skipped"] == {}
    with pytest.raises(InputError, match=r"a.csv has no column 'rating', which the schema wants.*`column`"):
        cr.prepare(path, tmp_path / "x", schema=[STARS | {"column": "rating"}])
    with pytest.raises(InputError, match=r"event/age is computed of times, and the log is read without"):
        cr.prepare(path, tmp_path / "x", time=None, schema=[{"name": "age", "owner": "event", "kind": "age"}])
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"u{n % 5},i{n},{n}\n" for n in range(30)))
    hour = {"name": "hour", "owner": "event", "kind": "hour"}
    with pytest.raises(InputError, match=r"event/hour is of the calendar.*end with 29, as given"):
        cr.prepare(path, tmp_path / "x", schema=[hour])
    with pytest.raises(InputError, match="event/stars: the generated world has no such columns"):
        cr.prepare(None, tmp_path / "x", schema=[STARS])
    assert not (tmp_path / "x").exists()


def test_a_user_twice_and_users_without_a_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(LOG)
    age = {"name": "age", "owner": "user", "kind": "numeric", "missing": 30}
    (tmp_path / "users.tsv").write_text("id\tage\nu1\t20\nu2\t\nnobody\t9\n")
    made = cr.prepare(
        path, tmp_path / "made", schema=[age], user_table=tmp_path / "users.tsv", user_table_id="id"
    )
    assert made.info["source"]["tables"] == {
        "user": {"rows": 3, "ids": 20, "without_row": 18, "not_in_log": 1, "files": ["users.tsv"]}
    }
    ages = {}
    for split in SPLITS:
        read = open_dataset(made.directory).read(split)
        ages |= dict(zip(read.user_ids, read.columns["user/age"].tolist(), strict=True))
    assert ages == {f"u{number}": 20 if number == 1 else 30 for number in range(20)}
    (tmp_path / "users.tsv").write_text("id\tage\nu1\t20\nu1\t21\n")
    with pytest.raises(InputError, match=r"users.tsv, line 3: the user 'u1' has a row above already"):
        cr.prepare(path, tmp_path / "x", schema=[age], user_table=tmp_path / "users.tsv", user_table_id="id")
