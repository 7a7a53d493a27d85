"""The item memory: first in, first out; uniform draws from its filled part; survives a checkpoint."""

import collections

import numpy as np
import tensorflow as tf

from causerec_tf.counterfactual.memory import ConceptMemory


def contents(memory, draws=4000):
    return set(memory.draw([draws], [1, 2]).numpy())


def test_first_in_first_out_against_a_deque():
    memory, twin = ConceptMemory(7), collections.deque(maxlen=7)
    rng = np.random.default_rng(5)
    for start in range(1, 200, 20):
        batch = np.arange(start, start + rng.integers(0, 12), dtype=np.int32)
        memory.enqueue(tf.constant(batch))
        twin.extend(batch)
        assert int(memory.filled) == len(twin)
        assert contents(memory) == (set(twin) or {0})


def test_an_empty_memory_draws_padding():
    assert contents(ConceptMemory(5)) == {0}


def test_draws_are_uniform_and_repeatable():
    memory = ConceptMemory(100)
    memory.enqueue(tf.range(1, 11))
    drawn = memory.draw([50_000], [3, 4]).numpy()
    counts = np.bincount(drawn, minlength=11)[1:]
    # Chi-square with 9 degrees of freedom: 27.9 is exceeded once in a thousand.
    assert ((counts - 5000) ** 2 / 5000).sum() < 27.9
    np.testing.assert_array_equal(drawn, memory.draw([50_000], [3, 4]))
    assert (drawn != memory.draw([50_000], [3, 5]).numpy()).any()


def test_survives_a_checkpoint(tmp_path):
    memory = ConceptMemory(4)
    memory.enqueue(tf.constant([1, 2, 3, 4, 5, 6]))
    path = tf.train.Checkpoint(memory=memory).write(str(tmp_path / "memory"))
    again = ConceptMemory(4)
    tf.train.Checkpoint(memory=again).read(path).assert_consumed()
    for one in (memory, again):
        one.enqueue(tf.constant([7]))
        assert contents(one) == {4, 5, 6, 7}
