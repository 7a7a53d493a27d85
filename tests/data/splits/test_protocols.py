"""Protocols against pure Python, from a log to batches and evaluation users; and attempts to leak."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import Log
from causerec_tf.data.preparation import prepare
from causerec_tf.data.sequences import SPLITS
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.data.training_records import trained_items
from causerec_tf.data.windows import training_batches
from causerec_tf.errors import InputError
from tests import reference_data

TIME = {"validation_from": "2", "test_from": "5"}
CASES = {
    "leave_one_out": {},
    "time_all": TIME,
    "time_last": TIME | {"test_target": "last"},
    "given": {},
    "none": {},
}
HELD_OUT = [case for case in CASES if case != "none"]


def settings_of(case):
    name = "time" if case.startswith("time") else case
    return ProtocolSettings(name, **CASES[case])


def rows_of(case, seed):
    """Rows (user, item, time) and how many of each user's last ones are a test list."""
    draw = random.Random(seed)
    rows, num_test = reference_data.odd_rows(draw), {}
    if case == "given":
        for user in {row[0] for row in rows}:
            num_test[user] = draw.choice([0, 1, 4])
            rows += [(user, f"item{draw.randint(0, 40)}", draw.randint(-3, 6)) for _ in range(num_test[user])]
    return rows, num_test


def log_of(rows, num_test):
    """A log of rows, of which the last `num_test` of each user, as they stand, are test lists."""
    events = reference_data.frame(rows)
    if num_test:
        left, is_test = dict(num_test), []
        for user, _, _ in reversed(rows):
            is_test.append(left[user] > 0)
            left[user] -= 1
        events = events.with_columns(pl.Series("is_test", is_test[::-1]))
    return Log(events, times.AS_GIVEN, len(rows), {}, ("log.csv",))


def ordered(rows, num_test):
    """User -> [(item, time)]: the training list by time, then the test list by time."""
    if not num_test:
        return reference_data.sequences(rows)
    by_user = {}
    for row in rows:
        by_user.setdefault(row[0], []).append(row)
    found = {}
    for user, own in by_user.items():
        size = len(own) - num_test[user]
        parts = (reference_data.sequences(part).get(user, []) for part in (own[:size], own[size:]))
        found[user] = [event for part in parts for event in part]
    return found


def twin(case, rows, num_test):
    cuts = {}
    if case.startswith("time"):
        cuts = {"validation_from": 2, "test_from": 5, "test_target": CASES[case].get("test_target", "all")}
    name = settings_of(case).name
    return reference_data.records(ordered(rows, num_test), name, num_test=num_test, **cuts)


def write(tmp_path, case, rows, num_test, name="shop", **options):
    return prepare(
        log_of(rows, num_test), tmp_path / name, protocol=settings_of(case), num_shards=2, **options
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_records_and_counts_equal_the_slow_twin(tmp_path, case, seed):
    rows, num_test = rows_of(case, seed)
    dataset = write(tmp_path, case, rows, num_test)
    wanted = twin(case, rows, num_test)
    vocabulary, num_trained = reference_data.trained_vocabulary(wanted, {row[1] for row in rows})
    assert dataset.item_ids() == vocabulary
    assert dataset.num_trained_items == num_trained
    trained = set(vocabulary[:num_trained])
    counts = dataset.info["counts"]
    for split in SPLITS:
        read = dataset.read(split)
        assert sorted(read.user_ids) == sorted(wanted[split])
        for place, user in enumerate(read.user_ids):
            events, num_history = wanted[split][user]
            start, end = read.row_splits[place], read.row_splits[place + 1]
            assert [vocabulary[index - 1] for index in read.items[start:end]] == [item for item, _ in events]
            assert read.timestamps[start:end].tolist() == [moment for _, moment in events]
            assert read.num_history[place] == num_history
        records = wanted[split].values()
        assert counts["users"][split] == len(records)
        assert counts["interactions"][split] == sum(len(events) for events, _ in records)
        assert counts["items"][split] == len({item for events, _ in records for item, _ in events})
        if split == "train":
            assert counts["training_windows"] == sum(len(events) - 1 for events, _ in records)
            continue
        measured = [one for one in records if one[1] > 0]
        assert counts["evaluation_users"][split] == len(measured)
        assert len(evaluation_users(read, 3)) == len(measured)
        targets = [item for events, history in records for item, _ in events[history:]]
        new = [item for item in targets if item not in trained]
        assert counts["new_in"][split] == {
            "users": len(set(wanted[split]) - set(wanted["train"])),
            "items": len(set(new)),
            "targets": len(new),
        }
    met = [list(zip([row[0] for row in rows], [row[1] for row in rows], strict=True)), rows]
    pairs, triples = (len(one) - len(set(one)) for one in met)
    assert counts["log"] == {
        "users": len({row[0] for row in rows}),
        "interactions": len(rows),
        "repeats": triples if case != "given" else counts["log"]["repeats"],
        "returns": pairs,
    }


@pytest.mark.parametrize("case", HELD_OUT)
def test_evaluation_users_have_the_history_and_the_distinct_targets_of_the_twin(tmp_path, case):
    rows, num_test = rows_of(case, 3)
    dataset = write(tmp_path, case, rows, num_test)
    wanted, vocabulary = twin(case, rows, num_test), dataset.item_ids()
    for split in SPLITS[1:]:
        users = evaluation_users(dataset.read(split), max_history=4)
        assert len(users) > 3
        for place, user in enumerate(users.user_ids):
            events, num_history = wanted[split][user]
            items = [vocabulary.index(item) + 1 for item, _ in events]
            assert users.seen[place].tolist() == items[:num_history]
            last = items[max(0, num_history - 4) : num_history]
            assert users.history[place].tolist() == last + [0] * (4 - len(last))
            assert users.targets[place].tolist() == list(dict.fromkeys(items[num_history:]))


def windows_in(dataset, max_history=3):
    found = []
    for batch in training_batches(dataset, batch_size=16, max_history=max_history, seed=0, epoch=0):
        found += list(
            zip(map(tuple, batch["history"].numpy().tolist()), batch["target"].numpy(), strict=True)
        )
    return sorted((history, int(target)) for history, target in found)


@pytest.mark.parametrize("case", CASES)
def test_training_windows_come_from_training_records_alone(tmp_path, case):
    rows, num_test = rows_of(case, 4)
    dataset = write(tmp_path, case, rows, num_test)
    vocabulary = dataset.item_ids()
    wanted = []
    for events, _ in twin(case, rows, num_test)["train"].values():
        wanted += reference_data.windows([vocabulary.index(item) + 1 for item, _ in events], 3)
    assert windows_in(dataset) == sorted(wanted)


@pytest.mark.parametrize("case", HELD_OUT)
def test_before_test_is_every_event_before_the_test_targets_once(tmp_path, case):
    rows, num_test = rows_of(case, 5)
    dataset = write(tmp_path, case, rows, num_test).for_training("before_test")
    vocabulary, wanted, trained, known, with_events = dataset.item_ids(), [], set(), [], set()
    by_user = ordered(rows, num_test)
    for user, events in by_user.items():
        if case == "leave_one_out":
            before = events[:-1] if len(events) >= 3 else events
        elif case == "given":
            before = events[: len(events) - num_test[user]]
        else:
            before = [event for event in events if event[1] < 5]
        items = [vocabulary.index(item) + 1 for item, _ in before]
        trained.update(items)
        known += items
        with_events |= {user} if items else set()
        wanted += reference_data.windows(items, 3)
    assert windows_in(dataset) == sorted(wanted)
    assert dataset.num_training_windows == len(wanted)
    found = trained_items(dataset)
    assert sorted(trained) == (list(range(1, len(vocabulary) + 1)) if found is None else found.tolist())
    events = TrainingEvents(dataset)
    assert events.counts.tolist() == [known.count(number) for number in range(1, len(vocabulary) + 1)]
    assert sorted(events.sequences.items.tolist()) == sorted(known)
    assert events.num_users == len(events.sequences) == len(with_events)
    users = np.array([*by_user, "nobody"], dtype=object)
    assert events.have_user(users).tolist() == [user in with_events for user in users]


@pytest.mark.parametrize("case", ["users", "none"])
def test_before_test_is_refused_where_nothing_lies_before_the_test(tmp_path, case):
    rows, _ = rows_of("none", 6)
    dataset = prepare(log_of(rows, {}), tmp_path / "shop", protocol=ProtocolSettings(case))
    with pytest.raises(InputError, match=rf"train_on=before_test.*protocol {case}"):
        dataset.for_training("before_test")


def held_out(case, rows, num_test, split):
    """Positions of the rows that training (validation) or what lies before the test (test) may not know."""
    positions, by_user = {}, {}
    for position, row in enumerate(rows):
        by_user.setdefault(row[0], []).append(position)
    for user, own in by_user.items():
        size = len(own) - num_test.get(user, 0)
        listed = sorted(own[:size], key=lambda position: rows[position][2])
        positions[user] = listed + sorted(own[size:], key=lambda position: rows[position][2])
    found = []
    for user, own in positions.items():
        size = len(own) - num_test.get(user, 0)
        if case == "leave_one_out":
            first = len(own) if len(own) < 3 else len(own) - (2 if split == "validation" else 1)
        elif case == "given":
            first = size if split == "test" or size < 3 else (9 * size) // 10
        else:
            cut = 2 if split == "validation" else 5
            first = sum(rows[position][2] < cut for position in own)
        found += own[first:]
    return found


def disturbed(rows, positions):
    """The rows with other items at some positions: a known one, new ones, one that becomes the favourite."""
    draw, changed = random.Random(9), list(rows)
    for position in positions:
        item = draw.choice(["favourite", "favourite", f"new{draw.randint(0, 9)}", rows[0][1]])
        changed[position] = (rows[position][0], item, rows[position][2])
    return changed


def bytes_of(dataset, split):
    return [Path(path).read_bytes() for path in dataset.shards(split)]


@pytest.mark.parametrize("case", HELD_OUT)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_is_held_out_changes_nothing_that_was_there_before(tmp_path, case, split):
    rows, num_test = rows_of(case, 7)
    positions = held_out(case, rows, num_test, split)
    assert len(positions) > 20
    one = write(tmp_path, case, rows, num_test, "one")
    other = write(tmp_path, case, disturbed(rows, positions), num_test, "other")
    assert one.fingerprint != other.fingerprint  # the attempt was one
    # Training, the numbers of its items and with them POP and the sampling of negatives.
    assert bytes_of(one, "train") == bytes_of(other, "train")
    assert one.num_trained_items == other.num_trained_items
    size = one.num_trained_items
    assert one.item_ids()[:size] == other.item_ids()[:size]
    assert one.num_training_windows == other.num_training_windows
    # What an index is tuned and a server warmed up with; by ids, since numbers behind `size` may differ.
    for read in ("validation",) if split == "validation" else ("validation", "test"):
        assert histories_in(one, read, case) == histories_in(other, read, case)


def histories_in(dataset, split, case):
    """User -> what is known of the user when `split` is measured; for time_last, up to the cut."""
    vocabulary, read = dataset.item_ids(), dataset.read(split)
    found = {}
    for place, user in enumerate(read.user_ids):
        start = read.row_splits[place]
        length = read.num_history[place]
        if case == "time_last":
            ends = read.row_splits[place + 1]
            length = int((read.timestamps[start:ends] < (2 if split == "validation" else 5)).sum())
        found[user] = [vocabulary[index - 1] for index in read.items[start : start + length]]
    return found


@pytest.mark.parametrize("case", HELD_OUT)
def test_changed_training_is_seen(tmp_path, case):
    """The counterpart: the comparison above does fail for an event that training may know."""
    rows, num_test = rows_of(case, 7)
    hidden = set(held_out(case, rows, num_test, "validation"))
    position = next(place for place in range(len(rows)) if place not in hidden)
    one = write(tmp_path, case, rows, num_test, "one")
    other = write(tmp_path, case, disturbed(rows, [position]), num_test, "other")
    assert bytes_of(one, "train") != bytes_of(other, "train")


@pytest.mark.parametrize(("tenths", "text"), [(9, "q.9"), (5, "q0.5"), (1, "q.10")])
def test_a_share_cuts_behind_the_time_of_its_event(tmp_path, tenths, text):
    draw = random.Random(tenths)
    rows = [(f"u{draw.randint(0, 9)}", f"i{draw.randint(0, 9)}", draw.randint(0, 40)) for _ in range(150)]
    moments = [moment for _, _, moment in rows]
    cut = reference_data.time_of_rank(moments, tenths) + 1
    inner = reference_data.time_of_rank([moment for moment in moments if moment < cut], 5) + 1
    asked = ProtocolSettings("time", validation_from="q.5", test_from=text)
    dataset = prepare(log_of(rows, {}), tmp_path / "shop", protocol=asked)
    assert dataset.protocol == {
        "name": "time",
        "test_target": "all",
        "validation_from": inner,
        "test_from": cut,
        "validation_from_asked": "q.5",
        "test_from_asked": text,
    }
    again = ProtocolSettings("time", validation_from=str(inner), test_from=str(cut))
    assert prepare(log_of(rows, {}), tmp_path / "b", protocol=again).fingerprint == dataset.fingerprint


def cut_of(moments, unit, **asked):
    rows = [("u", f"i{number}", moment) for number, moment in enumerate(moments)]
    log = Log(reference_data.frame(rows), unit, len(rows), {}, ())
    return ProtocolSettings("time", **asked), log


DAY = 86_400
SECONDS = [1_700_000_000 + day * DAY for day in range(10)]  # 2023-11-14T22:13:20 and the nine days after


@pytest.mark.parametrize(
    ("unit", "scale", "test_from", "wanted"),
    [
        (times.AS_GIVEN, 1, "2023-11-20", 1_700_438_400),
        (times.AS_GIVEN, 1, "2023-11-20T22:13:20", SECONDS[6]),
        (times.AS_GIVEN, 1_000, "2023-11-20T22:13:20.5Z", SECONDS[6] * 1_000 + 500),
        (times.AS_GIVEN, 1, "2023-11-20T22:13:20.5", SECONDS[6] + 1),
        (times.MICROSECONDS, 1_000_000, "2023-11-21T00:13:20+02:00", SECONDS[6] * 1_000_000),
        (times.MICROSECONDS, 1_000_000, f"{SECONDS[6]}.25", SECONDS[6] * 1_000_000 + 250_000),
        (times.AS_GIVEN, 1, str(SECONDS[6]), SECONDS[6]),
    ],
)
def test_dates_and_numbers_cut_at_themselves(tmp_path, unit, scale, test_from, wanted):
    asked, log = cut_of(
        [moment * scale for moment in SECONDS], unit, test_from=test_from, validation_from="q.5"
    )
    dataset = prepare(log, tmp_path / "shop", protocol=asked)
    assert dataset.protocol["test_from"] == wanted
    (num_history,) = dataset.read("test").num_history
    assert num_history == sum(moment * scale < wanted for moment in SECONDS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "needs test_from"),
        ({"test_from": "next week"}, "test_from=next week: wanted a date such as"),
        ({"test_from": "q1.5"}, "test_from=q1.5: wanted a share above q0 and below q1"),
        ({"test_from": "q.0"}, "wanted a share above q0"),
        (
            {"test_from": "5", "validation_from": "5"},
            "validation_from=5 leaves no event from it on and before",
        ),
        ({"test_from": "0"}, "test_from=0 leaves no event before it: the times of the log run from 0 to 9"),
        ({"test_from": "10"}, "test_from=10 leaves no event from it on"),
        ({"test_from": "2024-01-01"}, "is a date, but the times of the log are none: they end with 9"),
        ({"test_from": "q.5", "test_target": "next"}, "test_target=next: wanted one of all, last"),
    ],
)
def test_cuts_that_cannot_be_are_refused(tmp_path, asked, said):
    settings, log = cut_of(range(10), times.AS_GIVEN, **asked)
    with pytest.raises(InputError, match=said):
        prepare(log, tmp_path / "shop", protocol=settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("leave_one_out", {"test_from": "q.9"}, r"test_from=q.9 has no effect with protocol=leave_one_out"),
        ("users", {"test_target": "all"}, "test_target=all has no effect with protocol=users.*protocol=time"),
        ("given", {"validation_from": "q.9"}, "validation_from=q.9 has no effect with protocol=given"),
        ("given", {}, "needs given_test"),
        ("weekly", {}, "protocol=weekly: wanted one of users, leave_one_out, time, given, none"),
    ],
)
def test_settings_without_effect_are_refused(tmp_path, name, asked, said):
    rows, _ = rows_of("none", 1)
    with pytest.raises(InputError, match=said):
        prepare(log_of(rows, {}), tmp_path / "shop", protocol=ProtocolSettings(name, **asked))


def test_settings_of_the_split_by_users_are_refused_elsewhere(tmp_path):
    rows, num_test = rows_of("given", 1)
    none = ProtocolSettings("none")
    for said, options in (
        ("split_seed=3 has no effect with protocol=none", {"split_seed": 3}),
        ("training_share=0.5 has no effect", {"filters": Filters(training_share=0.5)}),
    ):
        with pytest.raises(InputError, match=said):
            prepare(log_of(rows, {}), tmp_path / "shop", protocol=none, **options)
    with pytest.raises(InputError, match=r"given_test=\.\.\. has no effect with protocol=none"):
        prepare(log_of(rows, num_test), tmp_path / "shop", protocol=none)


def test_the_last_events_of_a_user_are_those_of_the_test_list(tmp_path):
    """max_user_count keeps the last of each user, and a test list lies behind whatever its times."""
    rows = [("u", item, moment) for item, moment in (("a", 7), ("b", 8), ("c", 9), ("d", 1), ("e", 2))]
    dataset = write(tmp_path, "given", rows, {"u": 2}, filters=Filters(max_user_count=3))
    read, vocabulary = dataset.read("test"), dataset.item_ids()
    assert [vocabulary[index - 1] for index in read.items] == ["c", "d", "e"]
    assert read.num_history.tolist() == [1]


def test_without_items_that_were_seen_a_return_is_no_target(tmp_path):
    rows = [("u", item, moment) for moment, item in enumerate("abcab")]
    rows += [("v", item, moment) for moment, item in enumerate("abcad")]
    users = evaluation_users(write(tmp_path, "leave_one_out", rows, {}).read("test"), 5)
    assert sorted(users.user_ids) == ["u", "v"]
    assert users.with_unseen_targets().user_ids.tolist() == ["v"]


def test_what_an_earlier_release_wrote_for_users_is_what_is_written(tmp_path):
    """Digests of main before there were other protocols, of a log that is written out here."""
    rows = [
        (f"u{user}", f"i{(user * step * step) % 23}", (user + step) % 7)
        for user in range(60)
        for step in range(9)
    ]
    dataset = prepare(log_of(rows, {}), tmp_path / "shop", num_shards=2)
    assert dataset.fingerprint == "3f787bbf97117bd8e0994343dd3230bd3c26ef423d2cfdd7cd19d837741143a4"
    info = json.loads((tmp_path / "shop" / "dataset.json").read_text())
    assert not {"protocol", "num_trained_items"} & set(info)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in (tmp_path / "shop").iterdir()
    }
    assert digests["dataset.json"] == "8d7941c880926313"
    assert digests["features.json"] == "b36a8a0b6aefd8e6"
    assert dataset.num_trained_items == dataset.num_items
    assert trained_items(dataset) is None
    assert dataset.read("test").num_history is None
