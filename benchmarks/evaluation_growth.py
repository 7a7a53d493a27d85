"""Growth of evaluation: the time to rank the whole catalogue for users, against users and items.

`evaluation.rank_users` as validation calls it: it lays the catalogue out, encodes the histories and takes the
50 best. The towers are untrained, which costs the same. All sizes meet in the same rounds.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import growth, log, machine, pictures, rounds
from benchmarks.report import Result
from causerec_tf import evaluation, recipes
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.settings import Settings

K = 50

# The table, its copy in NumPy, the layout for ranking, and what making them holds at the same time.
_COPIES = 4


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      settings: of the model.
      catalogues: label -> items; `100k` and `10m` must be among the labels.
      users: numbers of users, ascending.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    catalogues: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(growth.CATALOGUES))
    users: tuple[int, ...] = (256, 1024)


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Ranks every catalogue for every number of users.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; `ratios` divides times a pair of user and item, and times a user.

    Raises:
      MemoryError: the catalogues do not fit into the memory that is free.
    """
    machine.check_memory(_COPIES * sum(scale.catalogues.values()) * scale.settings.embedding_dim)
    blocks, first_seconds = {}, {}
    # The largest first, while memory is emptiest.
    for label, num_items in sorted(scale.catalogues.items(), key=lambda pair: -pair[1]):
        say(f"ranking {num_items:,} items for the first time")
        model = recipes.compose(scale.settings, num_items)
        for num_users in reversed(scale.users):
            users = _users(num_users, num_items, scale.settings)
            work = partial(evaluation.rank_users, model, users, K, exclude_seen=False)
            seconds = rounds.timed(work)
            first_seconds.setdefault(label, seconds)
            blocks[label, num_users] = work
    ordered = [(label, num_users) for label in scale.catalogues for num_users in scale.users]
    named = {_name(*one): blocks[one] for one in ordered}
    seconds = rounds.interleave(named, num_rounds, say=say)

    result = Result("evaluation_growth")
    few, many = scale.users[0], scale.users[-1]

    def a_pair(label: str) -> list[float]:
        return [one / many / scale.catalogues[label] for one in seconds[_name(label, many)]]

    result.ratios["pair_10m_over_100k"] = rounds.quotients(a_pair("10m"), a_pair("100k"))
    result.ratios["user_of_many_over_few"] = [
        (one / many) / (other / few)
        for one, other in zip(seconds[_name("10m", many)], seconds[_name("10m", few)], strict=True)
    ]
    for name, values in seconds.items():
        result.add(name, "s", values)
    result.details = {
        "scale": dataclasses.asdict(scale),
        "k": K,
        "vectors_per_block": evaluation.VECTORS_PER_BLOCK,
        f"first_call_seconds_of_{many}_users": first_seconds,
        "nanoseconds_a_pair": {
            f"{num_users:,} users": {
                num_items: [1e9 * one / num_users / num_items for one in seconds[_name(label, num_users)]]
                for label, num_items in scale.catalogues.items()
            }
            for num_users in scale.users
        },
    }
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the time a pair of user and item against the catalogue."""
    title = f"Top {K} of the whole catalogue, median and range of rounds"
    unit = "nanoseconds a user and item"
    times = result.details["nanoseconds_a_pair"]
    pictures.draw_growth(directory / "evaluation_growth.png", title, times, unit)


def _users(num_users: int, num_items: int, settings: Settings) -> EvaluationUsers:
    """Users with full histories; seen items and targets, which ranking does not read, are those of nobody."""
    batch = log.zipf_batches(num_items, dataclasses.replace(settings, batch_size=num_users), 1)[0]
    nothing = ItemLists(np.zeros(0, np.int32), np.zeros(num_users + 1, np.int64))
    ids = np.arange(num_users).astype(str).astype(object)
    return EvaluationUsers(user_ids=ids, history=batch["history"], seen=nothing, targets=nothing)


def _name(label: str, num_users: int) -> str:
    return f"{label}_items_{num_users}_users"
