"""Evaluation: ranking the whole catalogue for all test users, beside the bare NumPy product.

NumPy's part is a product of float32 matrices (BLAS on all cores), `argpartition` and a sort of the k, in
the same blocks of users, with its user vectors ready made. Ours also encodes the histories.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import log, pictures, rounds, stepping
from benchmarks.report import Result
from causerec_tf import evaluation, retrieval
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.sequences import Dataset
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model

K = 50
VECTORS_A_USER = 4

# Another library's float32 products differ in the last digits: within this part of the product of the
# vectors' lengths, items are tied.
_TIE = 1e-6

NUMPY_USERS_PER_BLOCK = 512  # 256 and 1,024 were no faster

_top_k = tf.function(retrieval.top_k)


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      settings: of the model.
      steps: that it is trained for, so that popular items score higher, as they do in earnest.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    steps: int = 200


def measure(dataset: Dataset, scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures ranking, figures and several vectors a user.

    Args:
      dataset: whose test users are ranked for.
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result.

    Raises:
      RuntimeError: the two ways do not give the same items.
    """
    users = evaluation_users(dataset.read("test"), scale.settings.max_history)
    say(f"training {scale.steps} steps, for {len(users):,} test users")
    stepper = stepping.Stepper(
        compiled_model(scale.settings, dataset.num_items),
        log.first_batches(dataset, scale.settings, scale.steps),
        warm_up=scale.steps // 2,
    )
    step_seconds = rounds.timed(lambda: stepper.run(scale.steps // 2)) / (scale.steps // 2)
    model = stepper.model
    items = model.item_vectors()
    vectors = evaluation.user_vectors(model, users.history)
    several = _several(vectors)

    ours = evaluation.rank_users(model, users, K, exclude_seen=False)
    compared = {"one vector": _compare(ours, numpy_top_k(vectors, items), vectors[:, np.newaxis], items)}
    ours_several = our_top_k(several, items)
    compared[f"{VECTORS_A_USER} vectors"] = _compare(
        ours_several, numpy_top_k(several, items), several, items
    )
    evaluation.figures(ours, users)

    blocks: dict[str, Callable[[], object]] = {
        "rank_users": lambda: evaluation.rank_users(model, users, K, exclude_seen=False),
        "numpy": lambda: numpy_top_k(vectors, items),
        "figures": lambda: evaluation.figures(ours, users),
        "top_k_several": lambda: our_top_k(several, items),
        "numpy_several": lambda: numpy_top_k(several, items),
    }
    seconds = rounds.interleave(blocks, num_rounds, say=say)

    steps_an_epoch = dataset.num_training_windows / scale.settings.batch_size
    result = Result("evaluation")
    result.ratios["numpy_over_ours"] = rounds.quotients(seconds["numpy"], seconds["rank_users"])
    result.ratios[f"numpy_over_ours_{VECTORS_A_USER}_vectors"] = rounds.quotients(
        seconds["numpy_several"], seconds["top_k_several"]
    )
    result.ratios["evaluation_over_epoch"] = [
        (ranked + figures) / (step_seconds * steps_an_epoch)
        for ranked, figures in zip(seconds["rank_users"], seconds["figures"], strict=True)
    ]
    for name, taken in seconds.items():
        result.add(name, "users/s", rounds.per_second(len(users), taken))
    result.details = {
        "scale": dataclasses.asdict(scale),
        "users": len(users),
        "items": dataset.num_items,
        "k": K,
        "vectors_per_block": evaluation.VECTORS_PER_BLOCK,
        "numpy_users_per_block": NUMPY_USERS_PER_BLOCK,
        "seconds_a_training_step": step_seconds,
        "compared": compared,
    }
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws users/s."""
    title = f"Top {K} of the whole catalogue, median and range of rounds"
    # `figures` is not a ranking, and many times as fast: it would dwarf the others.
    shown = [one for one in result.measures if one.name != "figures"]
    pictures.draw_bars(directory / "evaluation.png", title, shown)


def numpy_top_k(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The bare product, partition and sort.

    Args:
      users: float32 [U, d] or [U, K, d]; of several vectors the best counts.
      items: float32 [V, d].

    Returns:
      int [U, k], items 1..V, best first.
    """
    size = NUMPY_USERS_PER_BLOCK
    k = min(K, len(items))
    scores = np.empty([size, len(items)], np.float32)
    other = np.empty_like(scores) if users.ndim == 3 else None
    best = np.empty([len(users), k], np.int64)
    for start in range(0, len(users), size):
        block = users[start : start + size]
        block_scores = scores[: len(block)]
        if other is None:
            np.matmul(block, items.T, out=block_scores)
        else:
            np.matmul(block[:, 0], items.T, out=block_scores)
            for vector in range(1, block.shape[1]):
                np.matmul(block[:, vector], items.T, out=other[: len(block)])
                np.maximum(block_scores, other[: len(block)], out=block_scores)
        top = np.argpartition(block_scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(block_scores, top, axis=1), axis=1)
        best[start : start + size] = np.take_along_axis(top, order, axis=1) + 1
    return best


def our_top_k(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """`retrieval.top_k` in the blocks of `evaluation`; as `numpy_top_k`."""
    size = evaluation.VECTORS_PER_BLOCK // (users.shape[1] if users.ndim == 3 else 1)
    catalogue = retrieval.in_blocks(items)
    k = min(K, len(items))
    blocks = (tf.constant(users[start : start + size]) for start in range(0, len(users), size))
    return np.concatenate([_top_k(block, catalogue, k)[1].numpy() for block in blocks])


def _several(vectors: np.ndarray) -> np.ndarray:
    """User vectors [U, K, d] around those given: only their number and size matter here."""
    random = np.random.default_rng(0)
    spread = vectors.std() * random.standard_normal([len(vectors), VECTORS_A_USER, vectors.shape[1]])
    return (vectors[:, np.newaxis] + spread).astype(np.float32)


def _compare(ours: np.ndarray, theirs: np.ndarray, users_UKD: np.ndarray, items: np.ndarray) -> dict:
    """Checks that each user has the same items, ties at the last place apart.

    Args:
      ours: int [U, k], items 1..V.
      theirs: int [U, k].
      users_UKD: float32 [U, K, d].
      items: float32 [V, d].

    Returns:
      How many users have the very same items, and how many only up to ties.

    Raises:
      RuntimeError: a user has others.
    """
    longest, tied = np.linalg.norm(items, axis=1).max(), 0
    for user, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        differing = np.setxor1d(mine, other)
        if not len(differing):
            continue
        vectors_KD = users_UKD[user]
        scores = (items[differing - 1] @ vectors_KD.T).max(axis=1)
        last = (items[other - 1] @ vectors_KD.T).max(axis=1).min()
        if np.abs(scores - last).max() > _TIE * longest * np.linalg.norm(vectors_KD, axis=1).max():
            raise RuntimeError(f"user {user} of the test users: items {differing} are in one answer only.")
        tied += 1
    return {"same": len(ours) - tied, "same_up_to_ties": tied}
