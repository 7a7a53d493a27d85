"""Slow pure-Python twins of the data half. They import nothing of ours."""

import hashlib

import polars as pl


def split_and_shard(user_id, split_seed, num_shards):
    """The split of a user (0 train, 1 validation, 2 test) and its shard, digit by digit."""
    digest = hashlib.blake2b(
        user_id.encode("utf-8"), digest_size=16, key=str(split_seed).encode("utf-8")
    ).digest()
    first = sum(byte << (8 * place) for place, byte in enumerate(reversed(digest[:8])))
    second = sum(byte << (8 * place) for place, byte in enumerate(reversed(digest[8:])))
    if first * 10 < 8 * 2**64:
        split = 0
    elif first * 10 < 9 * 2**64:
        split = 1
    else:
        split = 2
    return split, second % num_shards


def core_filter(rows, min_user_count, min_item_count):
    """Rows (user, item, time) after dropping rare users and items in turn until none is left."""
    while True:
        users = [row[0] for row in rows]
        kept = [row for row in rows if users.count(row[0]) >= min_user_count]
        items = [row[1] for row in kept]
        kept = [row for row in kept if items.count(row[1]) >= min_item_count]
        if len(kept) == len(rows):
            return rows
        rows = kept


def sequences(rows):
    """User -> [(item, time)], by time; ties keep the order of the rows."""
    by_user = {}
    for user, item, time in rows:
        by_user.setdefault(user, []).append((item, time))
    return {user: sorted(events, key=lambda event: event[1]) for user, events in by_user.items()}


def vocabulary(rows, split_seed):
    """Item ids by descending number of rows of training users, then by bytes."""
    frequency = {}
    for user, item, _ in rows:
        in_training = split_and_shard(user, split_seed, 1)[0] == 0
        frequency[item] = frequency.get(item, 0) + in_training
    return sorted(frequency, key=lambda item: (-frequency[item], item.encode("utf-8")))


def windows(sequence, max_history):
    """(padded history, target) of every prefix of a sequence."""
    made = []
    for end in range(1, len(sequence)):
        history = list(sequence[max(0, end - max_history) : end])
        made.append((tuple(history + [0] * (max_history - len(history))), sequence[end]))
    return made


def holdout(sequence, max_history):
    """(padded last items of the history, whole history, distinct targets), or None."""
    if len(sequence) < 2:
        return None
    cut = max(1, (8 * len(sequence)) // 10)
    seen, rest = list(sequence[:cut]), list(sequence[cut:])
    kept = seen[-max_history:]
    return kept + [0] * (max_history - len(kept)), seen, list(dict.fromkeys(rest))


def odd_rows(random, num_users=40, num_items=25):
    """A log with ties, repeats, one-event users, and ids of all kinds, as rows."""
    users = ["0", "-1", "é", "e\u0301", "用户", "a b", "\u2028", "\x85x", " ", "NA"]
    users += [str(number * 7919) for number in range(num_users - len(users))]
    items = ["0", "-5", "ß", "日本 語", "x\u2029y", "\x1c", "a,b", 'q"uote', "None"]
    items += [f"item{number}" for number in range(num_items - len(items))]
    rows = []
    for user in users:
        length = random.choice([1, 1, 2, 3, 8, 30])
        for _ in range(length):
            rows.append((user, random.choice(items), random.randint(-3, 6)))
    random.shuffle(rows)
    return rows


def frame(rows):
    """Rows (user, item, time) as what the data half takes."""
    users, items, moments = zip(*rows, strict=True)
    return pl.DataFrame(
        {"user": users, "item": items, "time": moments},
        schema={"user": pl.String, "item": pl.String, "time": pl.Int64},
    )


def records(by_user, protocol, *, validation_from=None, test_from=None, test_target=None, num_test=None):
    """Split -> {user: (events of the record, how many are history)}, user after user, event after event.

    `by_user` is user -> [(item, time)] in order; `num_test` user -> how many of the last are a test list.
    """
    found = {"train": {}, "validation": {}, "test": {}}

    def put(split, user, events, history):
        if events:
            found[split][user] = (events, len(history))

    for user, events in by_user.items():
        if protocol == "leave_one_out":
            if len(events) < 3:
                put("train", user, events, events)
                continue
            put("train", user, events[:-2], events[:-2])
            put("validation", user, events[:-1], events[:-2])
            put("test", user, events, events[:-1])
        elif protocol == "time":
            known = [event for event in events if event[1] < validation_from]
            between = [event for event in events if validation_from <= event[1] < test_from]
            after = [event for event in events if event[1] >= test_from]
            put("train", user, known, known)
            for split, before, targets in (
                ("validation", known, between),
                ("test", known + between, after),
            ):
                if targets:
                    whole = before + targets
                    put(split, user, whole, whole[:-1] if test_target == "last" else before)
        elif protocol == "given":
            size = len(events) - num_test.get(user, 0)
            listed = events[:size]
            kept = listed if size < 3 else listed[: (9 * size) // 10]
            put("train", user, kept, kept)
            if size >= 3:
                put("validation", user, listed, kept)
            if size < len(events):
                put("test", user, events, listed)
        else:
            put("train", user, events, events)
    return found


def trained_vocabulary(found, items):
    """All of the items by descending number of training events, then by bytes; and how many have one."""
    frequency = dict.fromkeys(items, 0)
    for events, _ in found["train"].values():
        for item, _ in events:
            frequency[item] += 1
    order = sorted(frequency, key=lambda item: (-frequency[item], item.encode("utf-8")))
    return order, sum(count > 0 for count in frequency.values())


def time_of_rank(moments, share_in_tenths):
    """The time of event number ceil(share n), counted off one by one."""
    wanted = 0
    while 10 * wanted < share_in_tenths * len(moments):
        wanted += 1
    return sorted(moments)[wanted - 1]
