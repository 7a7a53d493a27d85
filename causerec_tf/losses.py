"""Pure per-example losses: tensors in, one value per example out, reduced by the caller.

Shapes: B examples, d vector size, S sampled negatives, M counterfactual positives, N counterfactual
negatives, K interests of a user. Every mask is explicit: what is masked adds nothing to the value and
gets no gradient.
"""

import tensorflow as tf

MARGIN_CO = 1.0  # Delta_co of equation 9
MARGIN_II = 0.5  # Delta_ii of equation 10


def sampled_softmax(
    user_BD: tf.Tensor,
    target_BD: tf.Tensor,
    negative_SD: tf.Tensor,
    *,
    target_ids_B: tf.Tensor,
    negative_ids_S: tf.Tensor,
    target_log_expected_count_B: tf.Tensor | None = None,
    negative_log_expected_count_S: tf.Tensor | None = None,
    temperature: float = 1.0,
) -> tf.Tensor:
    """Negative log-likelihood of the target among itself and the sampled negatives.

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

    Returns:
      float [B], the loss of each example.
    """
    scaled_BD = user_BD / temperature
    positive_B = tf.reduce_sum(scaled_BD * target_BD, axis=-1)
    if target_log_expected_count_B is not None:
        positive_B -= target_log_expected_count_B
    offset_S = None
    if negative_log_expected_count_S is not None:
        offset_S = -negative_log_expected_count_S
    accidental = accidental_hits(target_ids_B, negative_ids_S)
    others_B = _log_sum_exp_of_products(scaled_BD, negative_SD, offset_S, accidental)
    # log(e^p + e^others) - p
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


@tf.function(reduce_retracing=True)
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


def contrast_with_observation(
    user_BD: tf.Tensor,
    positive_BMD: tf.Tensor,
    negative_BND: tf.Tensor,
    positive_mask_BM: tf.Tensor,
    negative_mask_BN: tf.Tensor,
) -> tf.Tensor:
    """L_co, equation 9: a triplet loss over all M x N pairs.

    `sum_m sum_n max(||x - x+_m|| - ||x - x-_n|| + 1, 0)` with the L2 distance.

    Args:
      user_BD: float [B, d], vectors of the observed histories.
      positive_BMD: float [B, M, d], vectors of the counterfactual positives.
      negative_BND: float [B, N, d], vectors of the counterfactual negatives.
      positive_mask_BM: bool [B, M], which positives exist.
      negative_mask_BN: bool [B, N], which negatives exist.

    Returns:
      float [B]; 0 for an example without a pair.
    """
    to_positive_BM = _safe_norm(user_BD[:, tf.newaxis] - positive_BMD)
    to_negative_BN = _safe_norm(user_BD[:, tf.newaxis] - negative_BND)
    triplet_BMN = tf.nn.relu(to_positive_BM[:, :, tf.newaxis] - to_negative_BN[:, tf.newaxis, :] + MARGIN_CO)
    pair_BMN = positive_mask_BM[:, :, tf.newaxis] & negative_mask_BN[:, tf.newaxis, :]
    return tf.reduce_sum(tf.where(pair_BMN, triplet_BMN, 0.0), axis=(1, 2))


def contrast_with_items(
    target_BD: tf.Tensor,
    positive_BMD: tf.Tensor,
    negative_BND: tf.Tensor,
    positive_mask_BM: tf.Tensor,
    negative_mask_BN: tf.Tensor,
) -> tf.Tensor:
    """L_ii, equation 10, on L2-normalised vectors.

    `sum_m (1 - x+_m . y) + sum_n max(0, x-_n . y - 0.5)`.

    Args:
      target_BD: float [B, d], vectors of the target items; normalised here.
      positive_BMD: float [B, M, d], vectors of the counterfactual positives; normalised here.
      negative_BND: float [B, N, d], vectors of the counterfactual negatives; normalised here.
      positive_mask_BM: bool [B, M], which positives exist.
      negative_mask_BN: bool [B, N], which negatives exist.

    Returns:
      float [B]; 0 for an example with no counterfactual sequence.
    """
    target_BD = tf.math.l2_normalize(target_BD, axis=-1)
    cosine_BM = _cosines(positive_BMD, target_BD)
    cosine_BN = _cosines(negative_BND, target_BD)
    pull_B = tf.reduce_sum(tf.where(positive_mask_BM, 1.0 - cosine_BM, 0.0), axis=-1)
    push_B = tf.reduce_sum(tf.where(negative_mask_BN, tf.nn.relu(cosine_BN - MARGIN_II), 0.0), axis=-1)
    return pull_B + push_B


def rank_over_negatives(
    user_BD: tf.Tensor,
    target_BD: tf.Tensor,
    negative_BND: tf.Tensor,
    negative_mask_BN: tf.Tensor,
    *,
    temperature: float = 1.0,
) -> tf.Tensor:
    """The history must fit the target better than what has lost its indispensable items (ours).

    `mean_n log(1 + exp((x-_n . y - x . y) / temperature))`: BPR (Rendle et al., UAI 2009) with the target
    fixed and two histories ranked, instead of two items for one history.

    Args:
      user_BD: float [B, d], vectors of the observed histories.
      target_BD: float [B, d], vectors of the target items.
      negative_BND: float [B, N, d], vectors of the counterfactual negatives.
      negative_mask_BN: bool [B, N], which negatives exist.
      temperature: what the inner products are divided by.

    Returns:
      float [B]; 0 for an example without a negative.
    """
    fit_B = tf.reduce_sum(user_BD * target_BD, axis=-1)
    behind_BN = (tf.linalg.matvec(negative_BND, target_BD) - fit_B[:, tf.newaxis]) / temperature
    exists_BN = tf.cast(negative_mask_BN, behind_BN.dtype)
    total_B = tf.reduce_sum(tf.where(negative_mask_BN, tf.nn.softplus(behind_BN), 0.0), axis=-1)
    return tf.math.divide_no_nan(total_B, tf.reduce_sum(exists_BN, axis=-1))


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


def _cosines(vectors_BND: tf.Tensor, unit_BD: tf.Tensor) -> tf.Tensor:
    """The cosine of each vector with one of length one, float [B, N]; 0 for a vector of zeros."""
    # The product first: so that no vector is written out again at another length.
    squared_BN = tf.reduce_sum(tf.square(vectors_BND), axis=-1)
    return tf.linalg.matvec(vectors_BND, unit_BD) * tf.math.rsqrt(tf.maximum(squared_BN, 1e-12))


@tf.function(reduce_retracing=True)
def _safe_norm(vectors: tf.Tensor) -> tf.Tensor:
    """The L2 norm over the last axis, with gradient 0 instead of NaN where the vector is 0.

    A function of its own for the same reason as `_log_sum_exp_of_products`.
    """

    @tf.custom_gradient
    def norm_of(vectors):
        norm = tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=-1))

        def gradient(upstream):
            return tf.math.divide_no_nan(upstream, norm)[..., tf.newaxis] * vectors

        return norm, gradient

    return norm_of(vectors)
