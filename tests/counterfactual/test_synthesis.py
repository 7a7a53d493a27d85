"""Counterfactual histories: where they differ, how often, by what; and when they do not exist."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from tests import reference

M, N, LENGTH, BATCH = 2, 3, 9, 300


def make(rate=0.5, memory=range(1000, 1500), memory_size=600):
    layer = synthesis.ItemSynthesis(
        num_positives=M, num_negatives=N, replacement_rate=rate, memory_size=memory_size
    )
    layer.memory.enqueue(tf.constant(list(memory), tf.int32))
    return layer


def histories(seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LENGTH + 1, size=BATCH)
    mask = np.arange(LENGTH) < lengths[:, np.newaxis]
    history = np.where(mask, rng.integers(1, 500, size=[BATCH, LENGTH]), 0).astype(np.int32)
    scores = rng.normal(size=[BATCH, LENGTH]).astype(np.float32)
    target = rng.integers(1, 500, size=BATCH).astype(np.int32)
    return history, mask, target, scores


def synthesise(layer, inputs, seed=(7, 8)):
    replacements, written = graph_of(layer)([tf.constant(value) for value in inputs], tf.constant(seed))
    return replacements, written.numpy()


@functools.cache
def graph_of(layer):
    """As in a training step, and fast enough for hundreds of draws."""

    @tf.function
    def synthesise_in_graph(inputs, seed):
        candidates = layer.draw_candidates(seed)
        replacements = layer(*inputs, candidates, seed).naming(candidates)
        return replacements, replacements.write_out(inputs[0])

    return synthesise_in_graph


@pytest.mark.parametrize("rate", [0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_only_the_right_half_changes_at_the_exact_count(rate):
    history, mask, _, scores = inputs = histories()
    replacements, written = synthesise(make(rate), inputs)
    exists = replacements.exists_BC.numpy()
    for b in range(BATCH):
        n = mask[b].sum()
        indispensable, dispensable = reference.halves(scores[b, :n])
        for c in range(M + N):
            half = dispensable if c < M else indispensable
            changed = np.flatnonzero(written[b, c] != history[b])
            assert set(changed) <= set(half)
            assert len(changed) == math.ceil(Fraction(str(rate)) * len(half))
            assert exists[b, c] == (len(half) > 0)
            # Every substitute stood in the memory; padding is as it was.
            assert (written[b, c][changed] >= 1000).all()
            assert (written[b, c][n:] == 0).all()


def test_positions_are_drawn_uniformly_and_each_history_for_itself():
    mask = np.ones([1, 8], bool)
    history = np.arange(1, 9, dtype=np.int32)[np.newaxis]
    scores = -np.arange(8, dtype=np.float32)[np.newaxis]  # positions 0..3 are indispensable
    layer = make()
    counts, pairs = np.zeros(8), set()
    for seed in range(300):
        layer.memory.enqueue(tf.range(1000, 1600))  # fills it: what the last call enqueued is gone
        inputs = history, mask, np.array([99], np.int32), scores
        _, written = synthesise(layer, inputs, (seed, 1))
        changed = written[0] != history
        counts += changed[M:].sum(axis=0)
        pairs.add((tuple(changed[M]), tuple(changed[M + 1])))
    assert (counts[4:] == 0).all()
    want = 300 * N / 2  # two of four positions each time
    # Five standard deviations of a binomial count.
    assert (abs(counts[:4] - want) < 5 * math.sqrt(300 * N / 4)).all()
    assert len(pairs) == 36  # each of 6 choices in one beside each of 6 in the other


def test_a_substitute_is_neither_the_item_nor_the_target():
    history = np.array([[1, 2, 3, 4]], np.int32)
    inputs = history, history > 0, np.array([5], np.int32), np.array([[4, 3, 2, 1]], np.float32)
    layer = make(memory=[1, 2, 3, 4, 5, 5, 5], memory_size=7)
    seen = set()
    for seed in range(80):
        layer.memory.enqueue(tf.constant([1, 2, 3, 4, 5, 5, 5]))
        replacements, written = synthesise(layer, inputs, (seed, 0))
        replaced = replacements.replaced_BCR.numpy()
        substitutes = replacements.substitutes_BCR.numpy()[replaced]
        originals = np.take(history[0], replacements.positions_BCR.numpy())[replaced]
        assert (substitutes != originals).all() and (substitutes != 5).all()
        seen |= {bool(r) for r in replaced.ravel()}
        # What found no substitute keeps its item and does not count as replaced.
        differs = (written[0] != history).any(axis=1)
        np.testing.assert_array_equal(replacements.exists_BC.numpy()[0], differs)
    assert seen == {True, False}


def test_what_comes_in_is_the_beginning_of_a_run_of_candidates():
    layer, inputs, seed = make(), histories(), tf.constant([7, 8])
    candidates = layer.draw_candidates(seed)
    made = layer(*(tf.constant(value) for value in inputs), candidates, seed)
    most = made.replaced_BCR.shape[2]
    runs = candidates.numpy()[: len(candidates) // most * most].reshape([-1, most])
    taken, replaced = made.runs.taken_BC.numpy(), made.replaced_BCR.numpy()
    assert len(np.unique(taken)) > len(runs) / 2  # of 1,500 draws
    substitutes = made.naming(candidates).substitutes_BCR.numpy()
    for b, c in np.ndindex(taken.shape):
        count = replaced[b, c].sum()
        assert replaced[b, c, :count].all()
        np.testing.assert_array_equal(substitutes[b, c, :count], runs[taken[b, c], :count])


def test_a_history_may_replace_more_items_than_there_are_candidates():
    length = 2 * synthesis.CANDIDATES_A_STEP + 10
    history = np.ones([1, length], np.int32)
    inputs = history, history > 0, np.array([2], np.int32), np.zeros([1, length], np.float32)
    layer = make(rate=1.0)
    replacements, written = synthesise(layer, inputs)
    assert replacements.replaced_BCR.numpy().all()
    assert ((written[0] >= 1000).sum(axis=1) == length // 2).all()


def test_of_a_few_runs_the_one_that_fits_for_longest_comes_in():
    """Half of the memory is the target: three of a run fit once in eight; the best of four is taken."""
    history = np.arange(1, 7, dtype=np.int32)[np.newaxis]
    inputs = history, history > 0, np.array([9], np.int32), np.zeros([1, 6], np.float32)
    layer, lengths = make(rate=1.0, memory=[9, 20], memory_size=2), []
    for seed in range(150):
        layer.memory.enqueue(tf.constant([9, 20]))
        replacements, _ = synthesise(layer, inputs, (seed, 4))
        replaced = replacements.replaced_BCR.numpy()[0]
        substitutes = replacements.substitutes_BCR.numpy()[0]
        for c in range(M + N):
            count = replaced[c].sum()
            assert (substitutes[c, :count] == 20).all() and replaced[c, :count].all()
            lengths.append(count)
    # Of one run: 0, 1, 2, 3 with 1/2, 1/4, 1/8, 1/8. The longest of four is at most k if all four are.
    at_most = np.array([1 / 2, 3 / 4, 7 / 8, 1]) ** 4
    want = len(lengths) * np.diff(at_most, prepend=0)
    got = np.bincount(lengths, minlength=4)
    assert (abs(got - want) < 5 * np.sqrt(want)).all()


def test_substitutes_are_drawn_uniformly_from_the_memory():
    layer, inputs = make(memory=range(1000, 1010), memory_size=10), histories()
    counts = np.zeros(10)
    for seed in range(30):
        layer.memory.enqueue(tf.range(1000, 1010))
        replacements, _ = synthesise(layer, inputs, (seed, 3))
        substitutes = replacements.substitutes_BCR.numpy()[replacements.replaced_BCR.numpy()]
        counts += np.bincount(substitutes - 1000, minlength=10)
    # A candidate of a step comes in for less than one and a half histories on average, so that these are not
    # independent draws: the variance is at most that many times larger, and one more.
    want = counts.sum() / 10
    assert (abs(counts - want) < 5 * math.sqrt(want * 2.5)).all()


def test_nothing_exists_while_the_memory_is_empty_and_the_batch_is_enqueued_afterwards():
    layer = make(memory=[])
    inputs = histories()
    replacements, written = synthesise(layer, inputs)
    assert not replacements.exists_BC.numpy().any()
    np.testing.assert_array_equal(written, np.repeat(inputs[0][:, np.newaxis], M + N, axis=1))
    assert int(layer.memory.filled) == min(inputs[1].sum(), layer.memory.capacity)
    replacements, _ = synthesise(layer, inputs)
    assert replacements.exists_BC.numpy().any()


def test_a_history_of_one_has_no_positive():
    inputs = (
        np.array([[3, 0, 0]], np.int32),
        np.array([[True, False, False]]),
        np.array([4], np.int32),
        np.zeros([1, 3], np.float32),
    )
    replacements, _ = synthesise(make(), inputs)
    assert replacements.exists_BC.numpy().tolist() == [[False] * M + [True] * N]


def test_the_same_seed_makes_the_same_histories():
    inputs = histories()
    _, first = synthesise(make(), inputs, (1, 2))
    _, again = synthesise(make(), inputs, (1, 2))
    _, other = synthesise(make(), inputs, (1, 3))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_padding_is_deleted_without_a_trace():
    history, mask, target, scores = histories()
    short = history[:, :4] * (np.arange(4) < 3), mask[:, :4] & (np.arange(4) < 3), target, scores[:, :4]
    padded = tuple(np.pad(value, [[0, 0], [0, 5]]) for value in short[:2])
    padded_scores = np.pad(short[3], [[0, 0], [0, 5]], constant_values=9.0)  # padding scores highest
    _, written = synthesise(make(), (*padded, target, padded_scores))
    for b in range(BATCH):
        n = short[1][b].sum()
        indispensable, dispensable = reference.halves(short[3][b, :n])
        for c in range(M + N):
            changed = np.flatnonzero(written[b, c] != padded[0][b])
            assert set(changed) <= set(dispensable if c < M else indispensable)


# Six directions of a plane, at other distances from zero: a long vector is not near for being long.
ANGLES = np.array([0.0, 10.0, 25.0, 45.0, 70.0, 100.0])
VECTORS = np.stack([np.cos(np.radians(ANGLES)), np.sin(np.radians(ANGLES))], axis=1)
VECTORS = (VECTORS * [[1.0], [0.3], [9.0], [0.5], [20.0], [3.0]]).astype(np.float32)


def replace_first(nearest_of, memory, target, seed):
    """What takes the place of item 1 in the history of it alone, and whether anything does."""
    layer = synthesis.ItemSynthesis(
        num_positives=0, num_negatives=1, replacement_rate=1.0, memory_size=60, nearest_of=nearest_of
    )
    layer.memory.enqueue(tf.constant(memory, tf.int32))
    candidates = layer.draw_candidates(tf.constant(seed))
    vectors = tf.gather(np.concatenate([[[0, 0]], VECTORS]).astype(np.float32), candidates)
    replacements = layer(
        *(tf.constant([[1]]), tf.constant([[True]]), tf.constant([target]), tf.constant([[0.0]])),
        *(candidates, tf.constant(seed), tf.constant(VECTORS[:1])[tf.newaxis], vectors),
    ).naming(candidates)
    return replacements.substitutes_BCR.numpy().ravel()[0], replacements.exists_BC.numpy().item()


@pytest.mark.parametrize(
    ("memory", "target", "want"),
    [
        ([6, 5, 4, 3, 2], 9, 2),
        ([6, 5, 4, 3], 9, 3),
        ([1, 2, 6, 5], 9, 2),  # the item itself would be the nearest
        ([6, 5, 4, 3, 2], 2, 3),  # the target would
        ([6], 9, 6),
    ],
)
def test_the_nearest_of_many_draws_by_the_cosine_takes_the_place(memory, target, want):
    # That 200 draws miss one of five has a probability of 4e-20.
    assert replace_first(200, memory, target, (3, 4)) == (want, True)


@pytest.mark.parametrize("memory", [[], [1], [2], [1, 2]])
def test_none_of_many_draws_takes_the_place_where_none_fits(memory):
    assert not replace_first(50, memory, 2, (3, 4))[1]


@pytest.mark.long
def test_so_many_candidates_are_compared_as_the_setting_says():
    nearest = sum(replace_first(2, [2, 3, 4, 5, 6], 9, (seed, 5))[0] == 2 for seed in range(400))
    share = 1 - (4 / 5) ** 2  # of two draws of five, at least one is the nearest
    assert abs(nearest - 400 * share) < 5 * math.sqrt(400 * share * (1 - share))


@pytest.mark.parametrize("nearest_of", [3, 16, 1024, 5000])
def test_each_position_gets_the_nearest_that_fits_of_its_own_candidates(nearest_of):
    """Against a loop over the positions: the i-th, of all histories, has the i-th block of candidates."""
    layer = synthesis.ItemSynthesis(
        num_positives=M, num_negatives=N, replacement_rate=0.5, memory_size=600, nearest_of=nearest_of
    )
    layer.memory.enqueue(tf.range(1, 41))
    table = np.random.default_rng(1).normal(size=[41, 8]).astype(np.float32)
    history, mask, target, scores = histories()
    history, target = history % 40 + mask, target % 40 + 1  # targets and originals are often candidates
    seed = tf.constant([7, 8])
    candidates = layer.draw_candidates(seed).numpy()
    inputs = (tf.constant(value) for value in (history, mask, target, scores, candidates))
    made = layer(*inputs, seed, tf.constant(table[history]), tf.constant(table[candidates]))
    positions, substitutes, replaced = (value.numpy() for value in made[:3])

    directions = table / np.linalg.norm(table, axis=1, keepdims=True)
    num_blocks = len(candidates) // nearest_of
    checked = 0
    for i, (b, c, r) in enumerate(np.ndindex(replaced.shape)):
        if not replaced[b, c, r]:
            continue
        original = history[b, positions[b, c, r]]
        block = i % num_blocks
        those = candidates[block * nearest_of : (block + 1) * nearest_of]
        fitting = those[(those != original) & (those != target[b])]
        want = fitting[(directions[fitting] @ table[original]).argmax()]
        assert candidates[substitutes[b, c, r]] == want
        checked += 1
    assert checked > 1000
