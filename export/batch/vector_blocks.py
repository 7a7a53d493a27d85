"""The vectors of a bundle, block by block: of the items that can be answered, and of users by history.

A block is its columns, N values each, and vectors float32 [N, d].
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from export.batch.attribute_values import AttributeValues
from export.batch.history_files import HistoryRow
from export.batch.vector_files import NORM, VECTOR
from export.index.catalogue import Catalogue
from export.query import ids_of
from export.towers.answers import FeatureTower

Block = tuple[dict[str, Any], np.ndarray]

_OURS = ("item_id", "name", VECTOR, NORM)
ITEMS_TOGETHER = 65_536
USERS_TOGETHER = 1_024


def item_blocks(catalogue: Catalogue, attributes: AttributeValues | None = None) -> Iterator[Block]:
    """`item_id`, `name` where there are names, attributes, and the exact vectors, most popular first.

    An attribute with the name of another column has `attribute_` before it.
    """
    answered = catalogue.answered_rows
    for start in range(0, len(answered), ITEMS_TOGETHER):
        rows = answered[start : start + ITEMS_TOGETHER]
        columns: dict[str, Any] = {"item_id": catalogue.ids(rows)}
        if catalogue.has_names:
            columns["name"] = [catalogue.name_of(item) for item in columns["item_id"]]
        for name, values in (attributes.of(columns["item_id"]) if attributes else {}).items():
            columns[f"attribute_{name}" if name in _OURS else name] = values
        yield columns, catalogue.vectors_of(rows)


def user_blocks(tower: FeatureTower, histories: Iterable[HistoryRow]) -> Iterator[Block]:
    """The columns of `user_block` and the vectors of users, in the order of their histories."""
    left = iter(histories)
    while rows := list(itertools.islice(left, USERS_TOGETHER)):
        answer = tower([ids_of(row.history) for row in rows], None, [row.given for row in rows])
        user_ids = [row.user_id for row in rows]
        yield user_block(user_ids, answer.num_known, answer.user_vectors, answer.knows_values)


def user_block(
    user_ids: list[Any], num_known: np.ndarray, vectors: np.ndarray, knows_values: np.ndarray | None = None
) -> Block:
    """Lays vectors [N, d], or [N, K, d] with K rows a user, out as a block.

    Its columns are `user_id`, with several vectors `interest` from 0, and `num_known`, how many items of the
    history were read. Where that is 0, and no value of the user's features is known either, the vector is
    zero: it says nothing.
    """
    several = vectors if vectors.ndim == 3 else vectors[:, np.newaxis]
    is_known = num_known > 0 if knows_values is None else (num_known > 0) | knows_values
    several = np.where(is_known[:, np.newaxis, np.newaxis], several, np.float32(0))
    count = several.shape[1]
    columns: dict[str, Any] = {"user_id": [user for user in user_ids for _ in range(count)]}
    if vectors.ndim == 3:
        columns["interest"] = np.tile(np.arange(count), len(user_ids))
    columns["num_known"] = np.repeat(num_known, count)
    return columns, several.reshape(-1, several.shape[2])
