"""The data that is trained on: an opened dataset or a generated one, and batches of it in memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from causerec_tf.data.dataset_files import INFO_FILE
from causerec_tf.data.generated import synthetic
from causerec_tf.data.sequences import Dataset, open_dataset
from causerec_tf.data.splits import split_sequences
from causerec_tf.data.windows import training_batches
from causerec_tf.data.writing import sequence_writer
from causerec_tf.settings import Settings

# Yelp2018's counts, as recommendation papers use it.
NUM_USERS = 31_668
NUM_ITEMS = 38_048
NUM_EVENTS = 1_561_406

_NUM_SHARDS = 8


def open_or_generate(directory: Path, say: Callable[[str], None] = print) -> Dataset:
    """Opens a dataset; one that is not there is generated, with Yelp2018's counts.

    Popularity follows Zipf's law with exponent 0.8 within each of 24 interests, with a fifth of the events
    uniform over the catalogue; see `causerec_tf.data.generated.synthetic`.

    Args:
      directory: of the dataset.
      say: told when one is generated.
    """
    if not (directory / INFO_FILE).exists():
        say(f"generating {NUM_EVENTS:,} events in {directory}, once")
        _generate(directory)
    return open_dataset(directory)


def first_batches(dataset: Dataset, settings: Settings, count: int) -> tf.data.Dataset:
    """The first batches of the real pipeline, in memory, for ever again.

    The elements have the shapes that the pipeline's have: what is traced with them is what training traces.

    Args:
      dataset: an opened one.
      settings: batch size, rows, history length and seed.
      count: batches at most; only full ones.
    """
    pipeline = training_batches(
        dataset,
        batch_size=settings.batch_size,
        max_history=settings.max_history,
        seed=settings.seed,
        epoch=0,
        whole_sequences=settings.whole_sequences,
    )
    batches = pipeline.take(count).as_numpy_iterator()
    full = [batch for batch in batches if len(batch["history"]) == settings.batch_size]
    return in_memory(full, settings.batch_size)


def in_memory(batches: list[dict[str, np.ndarray]], batch_size: int) -> tf.data.Dataset:
    """Batches without end.

    Args:
      batches: `history` int32 [B, L] and `target` int32 [B], or `targets` int32 [B, L], each.
      batch_size: B.
    """
    together = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return tf.data.Dataset.from_tensors(together).rebatch(batch_size).repeat().prefetch(2)


def zipf_batches(num_items: int, settings: Settings, count: int) -> list[dict[str, np.ndarray]]:
    """Batches whose items follow Zipf's law over a catalogue of any size, all histories full.

    `P(item) ~ item^-0.8`, by the inverse of the continuous law's distribution function.

    Args:
      num_items: V.
      settings: batch size, history length and seed.
      count: number of batches.
    """
    random = np.random.default_rng(settings.seed)

    def draw(*shape: int) -> np.ndarray:
        exponent = 0.2
        uniform = random.random(shape)
        rank = (uniform * ((num_items + 1.0) ** exponent - 1.0) + 1.0) ** (1.0 / exponent)
        return np.clip(rank, 1, num_items).astype(np.int32)

    size, length = settings.batch_size, settings.max_history
    return [{"history": draw(size, length), "target": draw(size)} for _ in range(count)]


def _generate(directory: Path) -> None:
    world = synthetic.generate(
        num_users=NUM_USERS, num_items=NUM_ITEMS, events_per_user=NUM_EVENTS / NUM_USERS, seed=0
    )
    sequences = split_sequences.build_sequences(world.events(), split_seed=0, num_shards=_NUM_SHARDS)
    about = {"time_unit": "as given", "split_seed": 0, "source": {"kind": "generated for benchmarks"}}
    directory.parent.mkdir(parents=True, exist_ok=True)
    sequence_writer.write_dataset(sequences, directory, num_shards=_NUM_SHARDS, about=about)
