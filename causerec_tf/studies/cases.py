"""Case studies of trained models: users beside their future items, and what was recommended to one of them.

The paper's figures 3 and 4 as numbers and lists; nothing here draws.

Shapes: U users, K vectors a user, d vector size, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causerec_tf import evaluation
from causerec_tf.comparison import mean_and_standard_error
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec

_USERS_PER_BLOCK = 128  # whose distances to the whole catalogue are held at once
_PERPLEXITY = 30.0  # of t-SNE: about how many neighbours a point has; scikit-learn's own default


@dataclass(frozen=True)
class UserMap:
    """Some users and future items of theirs in one plane, with figures by which to judge it.

    A figure is the mean over users of `relative_distances`: 1 where the own items are no nearer than others.

    Attributes:
      users: float [U, K, 2].
      items: float [N, 2].
      in_picture: of the users and items in the plane, by the distances there.
      before: of the same, by the cosine distances of their vectors.
      all_users: float [all users], of all evaluation users and all their future items, by cosine distances;
        the others are the future items of the other users, so that they are as popular as the own.
      all_users_catalogue: float [all users], the same beside the whole catalogue, each item counted once.
    """

    users: np.ndarray
    items: np.ndarray
    in_picture: float
    before: float
    all_users: np.ndarray
    all_users_catalogue: np.ndarray


@dataclass(frozen=True)
class Card:
    """What one user did, what one or more models recommended, and what the user did next.

    `history` has the last items before the cut, oldest first, `future` the first distinct ones after it, in
    the order of time; `num_history` and `num_future` say how many there were in all. `recommended` has a
    model's items, best first, and `hits` every one that is among all of the future, shown or not.
    """

    user_id: str
    history: list[int]
    num_history: int
    recommended: dict[str, list[int]]
    future: list[int]
    num_future: int
    hits: frozenset[int]


def choose_users(user_ids: np.ndarray, num_users: int, *, seed: int, wanted: str | None = None) -> np.ndarray:
    """Draws users by chance alone.

    A `wanted` user comes first whatever the draw; the others are drawn beside.

    Returns:
      int64 [num_users], positions in `user_ids`, distinct.
    """
    if not 1 <= num_users <= len(user_ids):
        raise InputError(f"{num_users} users are wanted of {len(user_ids)}: ask for 1 to {len(user_ids)}.")
    order = np.random.default_rng(seed).permutation(len(user_ids))
    if wanted is not None:
        places = np.flatnonzero(user_ids == wanted)
        if not len(places):
            some = ", ".join(user_ids[order[:5]])
            raise InputError(f"{wanted!r} is no test user with two events or more; such are {some}.")
        order = np.concatenate([places, order[order != places[0]]])
    return order[:num_users]


def choose_items(
    targets: ItemLists, users: np.ndarray, items_per_user: int, *, seed: int
) -> list[np.ndarray]:
    """Draws so many future items of each of some users by chance alone; a user with fewer gives all."""
    chance = np.random.default_rng(seed)
    return [chance.permutation(targets[user])[:items_per_user] for user in users]


def user_map(
    model: CauseRec,
    users: EvaluationUsers,
    chosen: np.ndarray,
    items_of_chosen: list[np.ndarray],
    *,
    seed: int,
) -> UserMap:
    """Lays the chosen users and items into a plane and measures how near they are to each other.

    `users` are all evaluation users, cut for this model's longest history, `chosen` the positions of U of
    them, each with items; those of the map are the distinct ones, ascending. The seed is that of t-SNE.
    """
    user_vectors, item_vectors = evaluation.user_vectors(model, users.history), model.item_vectors()
    items = shown_items(items_of_chosen)
    own = ownership(items_of_chosen, items)
    if own.all():
        raise InputError("the users drawn have the same items, so that none are others': draw more users.")
    shown_users, shown_vectors = user_vectors[chosen], item_vectors[items - 1]
    users_UK2, items_N2 = tsne_plane(shown_users, shown_vectors, seed=seed)
    alike = np.ones(len(items))
    in_picture = relative_distances(plane_distances(users_UK2, items_N2), own, alike)
    before = relative_distances(cosine_distances(shown_users, shown_vectors), own, alike)
    popularity = np.bincount(users.targets.items, minlength=model.num_items + 1)[1:]
    return UserMap(
        users=users_UK2,
        items=items_N2,
        in_picture=float(np.nanmean(in_picture)),
        before=float(np.nanmean(before)),
        all_users=_relative_distances_of_all(user_vectors, item_vectors, users.targets, popularity),
        all_users_catalogue=_relative_distances_of_all(
            user_vectors, item_vectors, users.targets, np.ones(model.num_items)
        ),
    )


def summary(one: UserMap, first: UserMap) -> dict[str, float | None]:
    """The figures of a map, means over users.

    Also `all_users` less that of the first run's map, of the same users, with its standard error.
    """
    difference = mean_and_standard_error(one.all_users - first.all_users)
    return {
        "in_picture": one.in_picture,
        "before": one.before,
        "all_users": float(np.nanmean(one.all_users)),
        "all_users_catalogue": float(np.nanmean(one.all_users_catalogue)),
        "all_users_minus_first": difference["mean"],
        "standard_error": difference["standard_error"],
    }


def shown_items(items_of_users: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct items of some users, ascending."""
    return np.unique(np.concatenate(items_of_users))


def ownership(items_of_users: Sequence[np.ndarray], items: np.ndarray) -> np.ndarray:
    """Which of the distinct items, int [N], are in each of U arrays, bool [U, N]."""
    return np.stack([np.isin(items, own) for own in items_of_users])


def cosine_distances(user_vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """1 - cosine of users, [U, d] or [U, K, d], and items, [N, d]: float [U, N]; the nearest vector counts.

    Lengths are left out, though a ranking by inner product counts those of the items: users and items differ
    so much in length that other distances would tell little else.
    """
    cosines = _unit(_several(user_vectors)) @ _unit(item_vectors).T
    return 1.0 - cosines.max(axis=1)


def plane_distances(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Distances in a picture of users, [U, K, 2], to items, [N, 2]: float [U, N], by the nearest point."""
    return np.linalg.norm(users[:, :, np.newaxis] - items, axis=-1).min(axis=1)


def relative_distances(distances: np.ndarray, own: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How near users are to their own items, measured by how near they are to others.

    Args:
      distances: float [U, N] between users and items.
      own: bool [U, N], which items are the user's own.
      weights: float [N], how much an item counts among the others; all alike for random items of the
        catalogue, or how many users have it, which compares with items just as popular as the own.

    Returns:
      float [U], mean distance to the own items / weighted mean distance to those that are not: 1 where the
      own are no nearer than the others. Not a number for a user for whom either kind is missing.
    """
    others = np.where(own, 0.0, weights)
    with np.errstate(invalid="ignore"):
        to_own = (distances * own).sum(axis=1) / own.sum(axis=1)
        to_others = (distances * others).sum(axis=1) / others.sum(axis=1)
    return to_own / to_others


def tsne_plane(
    user_vectors: np.ndarray, item_vectors: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lays users, [U, d] or [U, K, d], and items, [N, d], into one plane by t-SNE of their directions.

    Returns:
      float [U, K, 2] (K is 1 for one vector a user) and float [N, 2].
    """
    from sklearn.manifold import TSNE  # of the extra `plots`

    several = _several(user_vectors)
    num_users, num_vectors, width = several.shape
    points = _unit(np.concatenate([several.reshape(-1, width), item_vectors]))
    # t-SNE must have more points than neighbours; a third is what its authors' experiments keep to.
    perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    first_item = num_users * num_vectors
    return plane[:first_item].reshape(num_users, num_vectors, 2), plane[first_item:]


def card(users: EvaluationUsers, user: int, ranked: dict[str, np.ndarray], *, num_shown: int) -> Card:
    """Gathers the case of the user at a position, with so many items of history, lists and future.

    `ranked` has for each model its items for this user, best first; 0 where there is none.
    """
    history, future = users.seen[user], users.targets[user]
    lists = {name: [int(i) for i in items[:num_shown] if i != 0] for name, items in ranked.items()}
    return Card(
        user_id=users.user_ids[user],
        history=history[-num_shown:].tolist(),
        num_history=len(history),
        recommended=lists,
        future=future[:num_shown].tolist(),
        num_future=len(future),
        hits=frozenset().union(*lists.values()) & set(future.tolist()),
    )


def _relative_distances_of_all(
    user_vectors: np.ndarray, item_vectors: np.ndarray, targets: ItemLists, weights: np.ndarray
) -> np.ndarray:
    """`relative_distances` to the whole catalogue, block by block; float [all users]."""
    catalogue = np.arange(1, len(item_vectors) + 1)
    answers = []
    for start in range(0, len(targets), _USERS_PER_BLOCK):
        rows = range(start, min(start + _USERS_PER_BLOCK, len(targets)))
        own = ownership([targets[row] for row in rows], catalogue)
        distances = cosine_distances(user_vectors[rows.start : rows.stop], item_vectors)
        answers.append(relative_distances(distances, own, weights))
    return np.concatenate(answers)


def _several(user_vectors: np.ndarray) -> np.ndarray:
    """[U, d] as [U, 1, d]; [U, K, d] as it is."""
    return user_vectors if user_vectors.ndim == 3 else user_vectors[:, np.newaxis]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
