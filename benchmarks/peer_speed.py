"""Examples/s of our GRU4Rec and SASRec and of RecBole's, block by block in turn on the same batches."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks import log, peer_training, rounds, stepping
from causerec_tf.data.sequences import open_dataset
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model

STEPS = 10  # of a block
BATCHES = 16  # that are kept in memory
WARM_UP = 3  # steps before the first round


def measure(
    settings: Settings, towers: Sequence[str], num_rounds: int, say: Callable[[str], None] = print
) -> dict[str, list[float]]:
    """Times whole training steps: forward, backward and the optimiser.

    Args:
      settings: of our run; the tower is put in.
      towers: which.
      num_rounds: how often each block is timed.
      say: told how it goes on.

    Returns:
      `gru4rec`, `recbole_gru4rec` and so on -> [rounds] examples/s.
    """
    dataset = open_dataset(settings.dataset)
    batches = log.first_batches(dataset, settings, BATCHES)
    blocks: dict[str, Callable[[], object]] = {}
    for tower in towers:
        of_tower = dataclasses.replace(settings, tower=tower)
        stepper = stepping.Stepper(compiled_model(of_tower, dataset.num_items), batches, warm_up=WARM_UP)
        blocks[tower] = partial(stepper.run, STEPS)
        model, optimizer = peer_training.compiled(of_tower, dataset.num_items, is_default=False)
        peer = partial(_run, model.train(), optimizer, batches.as_numpy_iterator())
        peer(WARM_UP)
        blocks[f"recbole_{tower}"] = partial(peer, STEPS)
    seconds = rounds.interleave(blocks, num_rounds, say=say)
    return {name: rounds.per_second(STEPS * settings.batch_size, taken) for name, taken in seconds.items()}


def _run(model: Any, optimizer: Any, batches: Any, steps: int) -> None:
    for _ in range(steps):
        peer_training.step(model, optimizer, next(batches))
