"""Whether XLA is faster for the dense parts of a step: the tower's MLP and the sampled softmax.

Each part is taken forwards and backwards, at the shapes of a step, as plain TensorFlow operations and
compiled by XLA (`jit_compile=True`), interleaved.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tensorflow as tf

from benchmarks import pictures, rounds
from benchmarks.report import Result
from causerec_tf.settings import Settings
from causerec_tf.towers.pooling import MeanPoolingTower

_CALLS = 20
_HISTORIES = {"base": 1, "causerec_item": 10}  # that an example sends through the MLP


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      settings: of the model.
      calls: of a block.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    calls: int = _CALLS


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures both ways of both parts.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; a ratio above 1 means that XLA is faster.
    """
    settings = scale.settings
    parts = {
        f"mlp_{system}": _mlp(settings, histories * settings.batch_size)
        for system, histories in _HISTORIES.items()
    } | {"softmax": _softmax(settings)}
    blocks = {}
    for name, part in parts.items():
        for kind, compiled in (("plain", False), ("xla", True)):
            function = tf.function(part, jit_compile=compiled)
            function()
            blocks[f"{name}_{kind}"] = partial(_repeat, function, scale.calls)
    seconds = rounds.interleave(blocks, num_rounds, say=say)
    result = Result("compilation", details={"settings": dataclasses.asdict(settings)})
    for name in parts:
        result.ratios[f"{name}_plain_over_xla"] = rounds.quotients(
            seconds[f"{name}_plain"], seconds[f"{name}_xla"]
        )
    for name, values in seconds.items():
        result.add(name, "ms", [1e3 * value / scale.calls for value in values])
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws milliseconds of each part, plain and compiled."""
    title = "Dense parts of a step, plain and compiled by XLA (less is better)"
    pictures.draw_bars(directory / "compilation.png", title, result.measures)


def _repeat(function: Callable, calls: int) -> None:
    for _ in range(calls):
        answer = function()
    answer[0].numpy()


def _mlp(settings: Settings, rows: int) -> Callable:
    tower = MeanPoolingTower(settings.embedding_dim)
    tower.build(None)
    inputs = tf.random.stateless_normal([rows, settings.embedding_dim], [1, 2])
    upstream = tf.random.stateless_normal([rows, settings.embedding_dim], [3, 4])

    def forwards_and_backwards():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            vectors = tower.project(inputs)
        return tape.gradient(vectors, [inputs, *tower.trainable_variables], output_gradients=upstream)

    return forwards_and_backwards


def _softmax(settings: Settings) -> Callable:
    """What TensorFlow derives for the softmax over sampled negatives; accidental hits are left out."""
    users, targets = (
        tf.random.stateless_normal([settings.batch_size, settings.embedding_dim], [5, seed])
        for seed in (1, 2)
    )
    negatives = tf.random.stateless_normal([settings.num_sampled, settings.embedding_dim], [5, 3])

    def forwards_and_backwards():
        with tf.GradientTape() as tape:
            tape.watch([users, targets, negatives])
            positive = tf.reduce_sum(users * targets, axis=1)
            others = tf.reduce_logsumexp(tf.matmul(users, negatives, transpose_b=True), axis=1)
            loss = tf.reduce_mean(tf.nn.softplus(others - positive))
        return tape.gradient(loss, [users, targets, negatives])

    return forwards_and_backwards
