"""Each tower against its slow twin, one history at a time at its own length, with weights of any size."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.errors import InputError
from causerec_tf.recipes import user_tower
from causerec_tf.settings import Settings
from causerec_tf.towers import positions
from causerec_tf.towers.attention_blocks import LiGRBlock
from causerec_tf.towers.capsules import ComiRecDRTower, MINDTower
from causerec_tf.towers.frequency_block import BSARecBlock, CausalBSARecBlock
from causerec_tf.towers.gru import GRU4RecTower
from causerec_tf.towers.mean_and_attention import MeanSASRecTower
from causerec_tf.towers.multi_interest import SelfAttentiveMultiInterestTower
from causerec_tf.towers.self_attention import SASRecTower
from causerec_tf.towers.youtube_dnn import YouTubeDNNTower
from tests import reference

D, LENGTH, K = 6, 7, 3
LENGTHS = [1, 3, 7, 2, 5]
rng = np.random.default_rng(8)
CONCEPTS = rng.normal(size=[len(LENGTHS), LENGTH, D]).astype(np.float32)
MASK = np.arange(LENGTH) < np.array(LENGTHS)[:, np.newaxis]


def made(tower):
    """The tower with every weight drawn anew, and these as float64 in the order in which it made them."""
    tower.build(None)
    for variable in tower.variables:
        variable.assign(rng.normal(scale=0.6, size=variable.shape))
    return tower, [variable.numpy().astype(np.float64) for variable in tower.variables]


def assert_equal_to(twin, tower):
    vectors = tower(tf.constant(CONCEPTS), tf.constant(MASK)).numpy()
    for vector, concepts, length in zip(vectors, CONCEPTS, LENGTHS, strict=True):
        np.testing.assert_allclose(vector, twin(concepts[:length].astype(np.float64)), rtol=1e-4, atol=2e-5)


def test_youtube_dnn_is_a_linear_layer_on_the_mean():
    tower, (kernel, bias) = made(YouTubeDNNTower(D))
    assert_equal_to(lambda concepts: concepts.mean(axis=0) @ kernel + bias, tower)


def test_gru4rec():
    tower, (kernel, recurrent, bias, last_kernel, last_bias) = made(GRU4RecTower(D))

    def twin(concepts):
        return reference.gru_state(concepts, kernel, recurrent, bias) @ last_kernel + last_bias

    assert_equal_to(twin, tower)


def sasrec_twin(weights, num_blocks, num_heads):
    table, *weights, gamma, beta = weights
    blocks = []
    for start in range(0, 14 * num_blocks, 14):
        pairs = [tuple(weights[start + i : start + i + 2]) for i in range(0, 14, 2)]
        blocks.append(
            {
                "attention_norm": pairs[0],
                "query_key_value": pairs[1:4],
                "feed_forward_norm": pairs[4],
                "feed_forward": pairs[5:7],
            }
        )

    def twin(concepts):
        x = np.sqrt(D) * concepts + table[-len(concepts) :]
        for block in blocks:
            x = reference.sasrec_block(x, block, num_heads)
        return reference.layer_norm(x[-1], gamma, beta)

    return twin


@pytest.mark.parametrize(("num_blocks", "num_heads"), [(1, 1), (2, 1), (2, 3)])
def test_sasrec(num_blocks, num_heads):
    tower, weights = made(SASRecTower(D, max_history=9, num_blocks=num_blocks, num_heads=num_heads))
    assert_equal_to(sasrec_twin(weights, num_blocks, num_heads), tower)


def test_mean_sasrec_is_a_mean_and_sasrec_behind_a_gate():
    tower, _ = made(MeanSASRecTower(D, max_history=9, num_blocks=1))
    (kernel, bias), gate = tower.mean.get_weights(), tower.gate.numpy()
    attention = sasrec_twin(tower.attention.get_weights(), 1, 1)
    assert_equal_to(
        lambda concepts: concepts.mean(axis=0) @ kernel + bias + gate * attention(concepts), tower
    )


def in_turn(weights):
    """Takes so many of the weights at a time: a pair for a layer or a normalisation, one without bias."""
    left = iter(weights)

    def pair():
        return next(left), next(left)

    return pair, lambda: next(left)


@pytest.mark.parametrize(("num_blocks", "num_heads", "hidden"), [(1, 1, 0), (2, 3, 5)])
def test_ligr(num_blocks, num_heads, hidden):
    """eSASRec: no scale of the items, and nothing normalised behind the last block."""
    sizes = {"num_blocks": num_blocks, "num_heads": num_heads, "feedforward_dim": hidden}
    tower, (table, *weights) = made(SASRecTower(D, max_history=9, block=LiGRBlock, **sizes))
    pair, one = in_turn(weights)
    blocks = [
        {
            "attention_norm": pair(),
            "feed_forward_norm": pair(),
            "query_key_value": [pair(), pair(), pair()],
            "projection": pair(),
            "attention_gate": pair(),
            "hidden": one(),
            "hidden_gate": one(),
            "output": one(),
            "feed_forward_gate": pair(),
        }
        for _ in range(num_blocks)
    ]
    assert blocks[0]["hidden"].shape == (D, hidden or 4 * D)

    def twin(concepts):
        x = concepts + table[-len(concepts) :]
        for block in blocks:
            x = reference.ligr_block(x, block, num_heads)
        return x[-1]

    assert_equal_to(twin, tower)


def bsarec(block, num_blocks, num_heads):
    """A tower of BSARec's blocks, and its weights: the rows of positions, the first norm, the blocks'."""
    sizes = {"max_history": 9, "num_blocks": num_blocks, "num_heads": num_heads}
    tower, (table, *weights) = made(SASRecTower(D, block=block, **sizes))
    pair, one = in_turn(weights)
    blocks = [
        {
            "beta": one(),
            "filter_norm": pair(),
            "attention_norm": pair(),
            "feed_forward_norm": pair(),
            "query_key_value": [pair(), pair(), pair()],
            "projection": pair(),
            "feed_forward": [pair(), pair()],
        }
        for _ in range(num_blocks)
    ]
    first_norm = pair()

    def embed(concepts, rows):
        return np.array([reference.layer_norm(row, *first_norm, epsilon=1e-12) for row in concepts + rows])

    return tower, table, embed, blocks


@pytest.mark.parametrize(
    ("num_blocks", "num_heads", "alpha", "c"), [(1, 1, 0.7, 5), (2, 3, 0.3, 2), (2, 1, 1.0, 9)]
)
def test_bsarec(num_blocks, num_heads, alpha, c):
    """Padding on the left takes part: it holds the normalised rows of its positions."""
    block = functools.partial(BSARecBlock, alpha=alpha, c=c)
    tower, table, embed, blocks = bsarec(block, num_blocks, num_heads)

    def twin(concepts):
        num_padding = 9 - len(concepts)
        x = embed(np.concatenate([np.zeros([num_padding, D]), concepts]), table)
        for block in blocks:
            x = reference.bsarec_block(x, num_padding, block, alpha=alpha, c=c, num_heads=num_heads)
        return x[-1]

    assert_equal_to(twin, tower)


@pytest.mark.parametrize(("num_blocks", "num_heads", "c"), [(1, 1, 5), (2, 3, 2)])
def test_causal_bsarec_filters_what_stands_before_each_position(num_blocks, num_heads, c):
    """As the published filter at the end of nine positions, with zeros before the oldest item."""
    block = functools.partial(CausalBSARecBlock, alpha=0.6, c=c, max_history=9)
    tower, table, embed, blocks = bsarec(block, num_blocks, num_heads)

    def twin(concepts):
        x = embed(concepts, table[-len(concepts) :])
        for block in blocks:
            padded = [np.concatenate([np.zeros([9 - end, D]), x[:end]]) for end in range(1, len(x) + 1)]
            low = np.array([reference.low_pass(one, c)[-1] for one in padded])
            x = reference.bsarec_block(x, 0, block, alpha=0.6, c=c, num_heads=num_heads, low=low)
        return x[-1]

    assert_equal_to(twin, tower)


@pytest.mark.parametrize("use_bias", [False, True])
def test_mind(use_bias):
    tower, weights = made(MINDTower(D, num_interests=K, max_history=9, use_bias=use_bias))
    shared, *shared_bias, kernel, bias, logits = weights

    def twin(concepts):
        votes = np.repeat((concepts @ shared + sum(shared_bias))[np.newaxis], K, axis=0)
        capsules = reference.routing(votes, logits[: len(concepts)].T)
        return np.maximum(capsules @ kernel + bias, 0.0)

    assert_equal_to(twin, tower)


def test_comirec_dr():
    tower, (weights,) = made(ComiRecDRTower(D, num_interests=K, max_history=9))

    def twin(concepts):
        votes = np.empty([K, len(concepts), D])
        for k in range(K):
            for place, concept in enumerate(concepts):
                votes[k, place] = concept @ weights[place][:, k * D : (k + 1) * D]
        return reference.routing(votes, np.zeros([K, len(concepts)]))

    assert_equal_to(twin, tower)


def test_comirec_dr_starts_where_its_setting_says():
    """The mean and deviation of 972 numbers: a fifth off is far beyond chance."""
    identity = np.tile(np.eye(D), [1, K])
    for name, mean, deviation in [
        ("random", 0.0, D**-0.5), ("identity", identity, 0.02), ("published", 0.0, 1.0)
    ]:  # fmt: skip
        settings = Settings(
            tower="comirec_dr", embedding_dim=D, num_interests=K, max_history=9, routing_init=name
        )
        (maps,) = user_tower(settings).get_weights()
        noise = (maps - mean) / deviation
        assert abs(noise.mean()) < 0.2 and 0.8 < noise.std() < 1.2, name
        assert noise.std(axis=0).min() > 0.1 and noise.std(axis=(1, 2)).min() > 0.5, name
    # A setting of the maps is refused where there are none.
    with pytest.raises(InputError, match="it acts with --tower=comirec_dr and no --warm_start"):
        Settings(tower="mind", routing_init="identity").check_acting(["routing_init"])


def test_maps_near_the_identity_leave_a_repeated_item_as_it_is():
    """Without noise every vote is the item: K interests alike, along it."""
    tower = ComiRecDRTower(D, num_interests=K, max_history=9, map_std=0.0, near_identity=True)
    tower.build(None)
    item = CONCEPTS[0, 0]
    capsules = tower(tf.constant(np.tile(item, [1, 4, 1])), tf.ones([1, 4], tf.bool))[0]
    np.testing.assert_allclose(capsules, np.tile(reference.squash(4 / K * item), [K, 1]), rtol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_comirec_sa(use_bias):
    made_with = {"num_interests": K, "max_history": 9, "use_bias": use_bias}
    tower, weights = made(SelfAttentiveMultiInterestTower(D, **made_with))
    table, *weights = weights
    parts = weights[: 1 + use_bias], weights[1 + use_bias :]
    w_1, w_2 = parts[0][0], parts[1][0]
    assert w_1.shape == (D, 4 * D) and w_2.shape == (4 * D, K)
    biases = [part[1] for part in parts] if use_bias else []
    assert_equal_to(
        lambda concepts: reference.self_attentive_interests(concepts, table, w_1, w_2, *biases), tower
    )


def test_no_gradient_passes_through_the_routing_logits():
    """With the weights of the last iteration held fixed by the twin, differences give the gradient."""
    tower, (weights,) = made(ComiRecDRTower(D, num_interests=K, max_history=3))
    concepts = CONCEPTS[:1, :3]
    with tf.GradientTape() as tape:
        capsules = tower(tf.constant(concepts), tf.ones([1, 3], tf.bool))
        total = tf.reduce_sum(tf.sin(capsules))
    gradient = tape.gradient(total, tower.trainable_variables[0]).numpy()

    def votes_of(weights):
        by_place = [concept @ matrix for concept, matrix in zip(concepts[0], weights, strict=True)]
        return np.stack(np.split(np.stack(by_place), K, axis=1))

    logits = np.zeros([K, 3])
    votes = votes_of(weights)
    for _ in range(2):
        routed = np.exp(logits) / np.exp(logits).sum(axis=0)
        now = [reference.squash(routed[k] @ votes[k]) for k in range(K)]
        logits += np.array([votes[k] @ now[k] for k in range(K)])
    routed = np.exp(logits) / np.exp(logits).sum(axis=0)

    def loss(weights):
        votes = votes_of(weights)
        return sum(np.sin(reference.squash(routed[k] @ votes[k])).sum() for k in range(K))

    for place in [(0, 0, 0), (1, 2, 7), (2, 5, 17)]:
        step = np.zeros_like(weights)
        step[place] = 1e-6
        slope = (loss(weights + step) - loss(weights - step)) / 2e-6
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-3, atol=1e-5)


def test_rows_by_position():
    table = tf.constant([[1.0], [2.0], [3.0]])
    assert positions.from_oldest(table, tf.constant(2))[:, 0].numpy().tolist() == [1, 2]
    assert positions.from_oldest(table, tf.constant(5))[:, 0].numpy().tolist() == [1, 2, 3, 0, 0]
    mask = tf.constant([[True, True, False, False, False], [True] * 3 + [False] * 2, [False] * 5])
    rows = positions.from_newest(table, mask)[..., 0].numpy().tolist()
    assert rows == [[2, 3, 0, 0, 0], [1, 2, 3, 0, 0], [0] * 5]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of num_heads=4"):
        SASRecTower(6, max_history=3, num_heads=4)
