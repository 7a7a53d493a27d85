"""The retrieval part of the objective: user vectors must find their targets (equations 2 and 3).

Shapes: B examples, N user vectors with a target each, d vector size, S sampled negatives, K interests of a
user.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from causerec_tf.errors import InputError
from causerec_tf.negatives import InBatchSampler, Negatives, Sampler, UniformSampler
from causerec_tf.returns import OwnItems, returns_loss


class Candidates(NamedTuple):
    """What user vectors are ranked against in a step.

    Attributes:
      target_B: int32 [B], the target items.
      target_BD: float [B, d], their vectors.
      negatives: those that the retrieval part drew.
      negative_SD: float [S, d], their vectors.
      num_items: V.
      own: the users' own items, where returns are learned.
      trains_returns: whether their terms are trained, too.
    """

    target_B: tf.Tensor
    target_BD: tf.Tensor
    negatives: Negatives
    negative_SD: tf.Tensor
    num_items: int
    own: OwnItems | None = None
    trains_returns: bool = True

    def repeated(self, times: int) -> "Candidates":
        """The same with each target `times` times in a row, for histories that are not those of `own`."""
        target_B, target_BD = (tf.repeat(one, times, axis=0) for one in (self.target_B, self.target_BD))
        own = self.own and OwnItems(*(tf.repeat(one, times, axis=0) for one in self.own))
        return self._replace(target_B=target_B, target_BD=target_BD, own=own, trains_returns=False)


class SampledMatching:
    """A matching loss of targets and negatives that a batch shares; a subclass writes `of_each`.

    Attributes:
      needs_unit_length: whether its vectors must have length one, as for the cosine.
    """

    needs_unit_length = False

    def __init__(
        self,
        sampler: Sampler | InBatchSampler | None = None,
        *,
        choose_interest: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ):
        """Sets what is drawn.

        Args:
          sampler: of the negatives; None: `UniformSampler(4096)`.
          choose_interest: of a user's several vectors, float [N, K, d], and the target, float [N, d], the one
            that is trained, float [N, d]; None: `nearest_interest`. MIND's is `label_aware_attention`.
        """
        self.sampler = sampler or UniformSampler(4096)
        self.choose_interest = choose_interest or nearest_interest

    @property
    def wants_targets(self) -> bool:
        """Whether its sampler takes the targets of a batch, and wants `know_targets` before."""
        return isinstance(self.sampler, InBatchSampler)

    def know_targets(self, counts_V1: np.ndarray) -> None:
        """Tells the sampler how often each item is a target of training, int [V + 1]."""
        if isinstance(self.sampler, InBatchSampler):
            self.sampler.know_targets(counts_V1)

    def draw(self, num_items: int, seed: tf.Tensor, target_B: tf.Tensor) -> Negatives:
        """The step's negatives, of a batch with these targets, int32 [B]; a seed, int [2], draws the same."""
        if isinstance(self.sampler, InBatchSampler):
            return self.sampler.of_batch(target_B, num_items, seed)
        return self.sampler.draw(num_items, seed)

    def __call__(self, users: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """The loss of each user vector, float [N].

        Args:
          users: float [N, d] or [N, K, d], as many as there are targets.
          candidates: what they are ranked against.
        """
        if users.shape.rank != 2:
            users = self.choose_interest(users, candidates.target_BD)
        return self.of_each(users, candidates)

    def of_each(self, user_BD: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """The loss of each user by one vector, float [B, d] -> float [B]."""
        raise NotImplementedError

    def match_each(self, users: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """The loss of several histories an example, as L_cm needs it.

        Args:
          users: float [B, M, d] or [B, M, K, d].
          candidates: of the B examples.

        Returns:
          float [B, M].
        """
        num_histories = users.shape[1]
        if num_histories == 0:
            return tf.zeros([tf.shape(users)[0], 0])
        losses = self(tf.reshape(users, [-1, *users.shape[2:]]), candidates.repeated(num_histories))
        return tf.reshape(losses, [-1, num_histories])


class SampledSoftmax(SampledMatching):
    """The softmax over the target and sampled negatives, for towers with one or several vectors a user."""

    def __init__(
        self,
        sampler: Sampler | InBatchSampler | None = None,
        *,
        temperature: float = 1.0,
        return_weight: float = 0.1,
        choose_interest: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ):
        """Sets what is drawn and how it is compared.

        Args:
          sampler: see `SampledMatching`.
          temperature: what the inner products are divided by.
          return_weight: where returns are learned, what a target among the user's own items counts in what
            vectors learn from, beside 1 of a new one.
          choose_interest: see `SampledMatching`.
        """
        super().__init__(sampler, choose_interest=choose_interest)
        self.temperature, self.return_weight = temperature, return_weight

    def of_each(self, user_BD: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """As in `SampledMatching`; see `softmax_logits`."""
        drawn, own = candidates.negatives, candidates.own
        positive_B, others_B = softmax_logits(
            user_BD,
            candidates.target_BD,
            candidates.negative_SD,
            target_ids_B=candidates.target_B,
            negative_ids_S=drawn.ids_S,
            target_log_expected_count_B=self.sampler.log_expected_count(
                candidates.target_B, candidates.num_items
            ),
            negative_log_expected_count_S=drawn.log_expected_count_S,
            temperature=self.temperature,
            own_items_BL=None if own is None else own.items_BL,
        )
        loss_B = negative_log_likelihood(positive_B, others_B)
        if own is None:
            return loss_B
        is_return_B = tf.reduce_any(own.hold(candidates.target_B), axis=1)
        loss_B *= tf.where(is_return_B, self.return_weight, 1.0)
        if not candidates.trains_returns:
            return loss_B
        return loss_B + returns_loss(
            own,
            candidates.target_B,
            positive_B,
            others_B,
            temperature=self.temperature,
            # Only here is a sampler of one's own asked for it.
            log_share=self.sampler.log_share(candidates.num_items),
        )


class TaskMatching:
    """A `tfrs.tasks.Retrieval` as the retrieval part: its negatives are the other targets of the batch.

    Its loss is one number a batch. One that it sums over the examples is divided by their number: all losses
    here are means.
    """

    wants_targets = False
    needs_unit_length = False

    def __init__(self, task: tfrs.tasks.Retrieval):
        """Wraps a task."""
        self.task = task

    def know_targets(self, counts_V1: np.ndarray) -> None:
        """Nothing: the task corrects by what it is given itself."""
        del counts_V1

    def draw(self, num_items: int, seed: tf.Tensor, target_B: tf.Tensor) -> Negatives:
        """None: the task has its own."""
        del num_items, seed, target_B
        return Negatives(tf.zeros([0], tf.int32), None)

    def __call__(self, users: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """The mean loss of the batch, once for each user, float [B].

        Args:
          users: float [B, d].
          candidates: the targets; the negatives are not used.

        Raises:
          InputError: the tower has several vectors a user.
        """
        if users.shape.rank != 2:
            raise InputError(
                "tfrs.tasks.Retrieval ranks one vector a user, and the user tower gives several. Use"
                " SampledSoftmax."
            )
        loss = self.task(
            users, candidates.target_BD, candidate_ids=candidates.target_B, compute_metrics=False
        )
        num_users = tf.shape(users)[0]
        if self.task._loss.reduction == tf.keras.losses.Reduction.SUM:
            loss /= tf.cast(num_users, loss.dtype)
        return tf.fill([num_users], loss)

    def match_each(self, users: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """Refused: a batch in which a target stands several times is no batch for in-batch negatives."""
        raise InputError(
            "tfrs.tasks.Retrieval cannot match counterfactual positives (L_cm): use SampledSoftmax, or leave"
            " that loss out."
        )


def softmax_logits(
    user_BD: tf.Tensor,
    target_BD: tf.Tensor,
    negative_SD: tf.Tensor,
    *,
    target_ids_B: tf.Tensor,
    negative_ids_S: tf.Tensor,
    target_log_expected_count_B: tf.Tensor | None = None,
    negative_log_expected_count_S: tf.Tensor | None = None,
    temperature: float = 1.0,
    own_items_BL: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two sides of the softmax of the target among itself and the sampled negatives.

    Equations 2 and 3 of the paper with the sum over the catalogue replaced by a sample that the whole
    batch shares. A negative that is the example's own target (an accidental hit) is masked. Where the
    sampler is not uniform, the log-expected-count correction of Jean et al. (2015) is applied: each
    logit is lowered by the logarithm of how often the sampler is expected to draw its item.

    Args:
      user_BD: float [B, d], user vectors.
      target_BD: float [B, d], vectors of the target items.
      negative_SD: float [S, d], vectors of the sampled negatives.
      target_ids_B: int [B], the target items.
      negative_ids_S: int [S], the sampled negatives.
      target_log_expected_count_B: float [B] or None for a uniform sampler, where it cancels.
      negative_log_expected_count_S: float [S] or None, likewise.
      temperature: what the inner products are divided by.
      own_items_BL: int [B, L], 0 for none: items that are no negatives of this user.

    Returns:
      float [B], the logit of the target, and float [B], the log of the sum of e^logit over the negatives.
    """
    scaled_BD = user_BD / temperature
    positive_B = tf.reduce_sum(scaled_BD * target_BD, axis=-1)
    if target_log_expected_count_B is not None:
        positive_B -= target_log_expected_count_B
    offset_S = None
    if negative_log_expected_count_S is not None:
        offset_S = -negative_log_expected_count_S
    accidental = accidental_hits(target_ids_B, negative_ids_S)
    if own_items_BL is not None:
        at_N2 = tf.where(own_items_BL != 0)
        own_hits = accidental_hits(tf.gather_nd(own_items_BL, at_N2), negative_ids_S)
        of_examples = tf.gather(tf.cast(at_N2[:, 0], tf.int32), own_hits[:, 0])
        hits = tf.stack([of_examples, own_hits[:, 1]], axis=1)
        accidental = tf.concat([accidental, hits], axis=0)
    return positive_B, _log_sum_exp_of_products(scaled_BD, negative_SD, offset_S, accidental)


def negative_log_likelihood(positive_B: tf.Tensor, others_B: tf.Tensor) -> tf.Tensor:
    """`log(e^positive + e^others) - positive`, the loss of each example, float [B]."""
    return tf.nn.softplus(others_B - positive_B)


def accidental_hits(target_ids_B: tf.Tensor, negative_ids_S: tf.Tensor) -> tf.Tensor:
    """Where a sampled negative is an example's own target.

    A join of the two sorted lists: hits are rare, and a comparison of each with each would cost as much as
    the softmax.

    Args:
      target_ids_B: int [B].
      negative_ids_S: int [S], with repeats.

    Returns:
      int32 [hits, 2], pairs of (example, negative).
    """
    order_S = tf.argsort(negative_ids_S)
    sorted_S = tf.gather(negative_ids_S, order_S)
    first_B = tf.searchsorted(sorted_S, target_ids_B, side="left")
    counts_B = tf.searchsorted(sorted_S, target_ids_B, side="right") - first_B
    examples = tf.repeat(tf.range(tf.size(target_ids_B)), counts_B)
    starts = tf.gather(tf.cumsum(counts_B, exclusive=True), examples)
    places = tf.gather(first_B, examples) + tf.range(tf.size(examples)) - starts
    return tf.stack([examples, tf.gather(order_S, places)], axis=1)


@tf.function(reduce_retracing=True, autograph=False)
def _log_sum_exp_of_products(
    user_BD: tf.Tensor, negative_SD: tf.Tensor, offset_S: tf.Tensor | None, accidental: tf.Tensor
) -> tf.Tensor:
    """`log sum_s exp(u . n_s + offset_s)` of each user, without the accidental hits, float [B].

    Its gradient is written by hand because this is where a step spends its time: the exponentials serve
    both directions, their normaliser is applied to the [B, d] side, and the products are laid out so that
    no [B, S] matrix is read against its grain.

    A function of its own because TensorFlow keeps the graph around a custom gradient for as long as the
    process lives: that of a training step would keep the model.
    """

    @tf.custom_gradient
    def log_sum_exp(user_BD, negative_SD):
        logits_BS = tf.matmul(user_BD, negative_SD, transpose_b=True)
        if offset_S is not None:
            logits_BS += offset_S
        lowest = tf.fill([tf.shape(accidental)[0]], logits_BS.dtype.min)
        logits_BS = tf.tensor_scatter_nd_update(logits_BS, accidental, lowest)
        largest_B1 = tf.reduce_max(logits_BS, axis=1, keepdims=True)
        exponential_BS = tf.exp(logits_BS - largest_B1)
        total_B1 = tf.reduce_sum(exponential_BS, axis=1, keepdims=True)

        def gradient(upstream_B):
            weight_B1 = upstream_B[:, tf.newaxis] / total_B1
            of_user_BD = weight_B1 * tf.matmul(exponential_BS, negative_SD)
            of_negative_DS = tf.matmul(weight_B1 * user_BD, exponential_BS, transpose_a=True)
            return of_user_BD, tf.transpose(of_negative_DS)

        return (tf.math.log(total_B1) + largest_B1)[:, 0], gradient

    return log_sum_exp(user_BD, negative_SD)


def label_aware_attention(interests_BKD: tf.Tensor, target_BD: tf.Tensor, power: float) -> tf.Tensor:
    """What MIND trains on: the user's interests, weighted by how well each fits the target.

    `sum_k softmax_k((c_k . y)^p) c_k` (Li et al., CIKM 2019). A power other than 1 keeps the
    sign of the inner product (ours: that of a negative number is not defined for every power, and would
    prefer the interest that fits worst for an even one).

    Args:
      interests_BKD: float [B, K, d], the user vectors.
      target_BD: float [B, d], vectors of the target items.
      power: p, 0 or more; 0 gives the mean, and the larger it is, the more the best interest counts.

    Returns:
      float [B, d].
    """
    fit_BK = tf.linalg.matvec(interests_BKD, target_BD)
    if power == 0:
        fit_BK = tf.zeros_like(fit_BK)
    elif power != 1:
        # The inner `where` keeps the power away from 0, where its slope is infinite below a power of 1.
        is_zero = fit_BK == 0.0
        size_BK = tf.pow(tf.where(is_zero, 1.0, tf.abs(fit_BK)), power)
        fit_BK = tf.where(is_zero, 0.0, tf.sign(fit_BK) * size_BK)
    return tf.linalg.matvec(interests_BKD, tf.nn.softmax(fit_BK, axis=-1), transpose_a=True)


def nearest_interest(interests_BKD: tf.Tensor, target_BD: tf.Tensor) -> tf.Tensor:
    """The interest with the largest inner product with the target: what ComiRec trains on.

    `c_k with k = argmax_k c_k . y` (Cen et al., KDD 2020); of several alike the first. The chosen vector
    has the gradient; the choice has none.

    Args:
      interests_BKD: float [..., K, d], the user vectors.
      target_BD: float [..., d], vectors of the target items; its leading axes broadcast.

    Returns:
      float [..., d].
    """
    fit_BK = tf.reduce_sum(interests_BKD * target_BD[..., tf.newaxis, :], axis=-1)
    chosen_BK = tf.one_hot(tf.argmax(fit_BK, axis=-1), interests_BKD.shape[-2], dtype=interests_BKD.dtype)
    return tf.linalg.matvec(interests_BKD, chosen_BK, transpose_a=True)
