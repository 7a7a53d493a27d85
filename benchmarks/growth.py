"""Growth: the time of a training step against the size of the catalogue.

The batches have one size; their items follow Zipf's law over each catalogue. A larger catalogue repeats its
items less often within a batch, so that a step touches more distinct rows: their number is stored beside.
"""

import dataclasses
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import log, machine, pictures, rounds, stepping
from benchmarks.report import Result
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model

METHODS = ("base", "item")
CATALOGUES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000, "10m": 10_000_000}

# Table, two moments, and what initialising them holds at the same time.
_COPIES = 4


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      settings: of the model; the method is put in.
      catalogues: label -> items; `100k` and `10m` must be among the labels.
      steps: of a block.
      warm_up: steps before the first round.
      batches: that are gone through again and again.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    catalogues: Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(CATALOGUES))
    steps: int = 40
    warm_up: int = 15
    batches: int = 64


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures the step of `base`, then that of CauseRec-Item; all catalogues of one are interleaved.

    The tables of `base` are freed before those of CauseRec-Item are made.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; `ratios` divides times of a step.

    Raises:
      MemoryError: the catalogues do not fit into the memory that is free.
    """
    machine.check_memory(_COPIES * sum(scale.catalogues.values()) * scale.settings.embedding_dim)
    result = Result("growth", details={"scale": dataclasses.asdict(scale)})
    result.details["distinct_rows_a_step_of_base"] = _distinct_rows(scale)
    result.details["milliseconds"] = {}
    for method in METHODS:
        settings = dataclasses.replace(scale.settings, method=method)
        name = settings.system
        milliseconds = _measure_method(settings, scale, num_rounds, say)
        for label, values in milliseconds.items():
            result.add(f"{name}_{label}", "ms per step", values)
        result.details["milliseconds"][name] = {
            scale.catalogues[label]: values for label, values in milliseconds.items()
        }
        prefix = "" if method == "base" else f"{name}_"
        result.ratios[f"{prefix}step_10m_over_100k"] = rounds.quotients(
            milliseconds["10m"], milliseconds["100k"]
        )
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the step's time against the catalogue."""
    title = "A training step, median and range of rounds"
    unit = "milliseconds per step"
    pictures.draw_growth(directory / "growth.png", title, result.details["milliseconds"], unit)


def _measure_method(
    settings: Settings, scale: Scale, num_rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Milliseconds a step of each catalogue, by label."""
    steppers: dict[str, stepping.Stepper] = {}
    # The largest first, while memory is emptiest.
    for label, num_items in sorted(scale.catalogues.items(), key=lambda pair: -pair[1]):
        say(f"warming {settings.system} up on {num_items:,} items")
        batches = log.in_memory(log.zipf_batches(num_items, settings, scale.batches), settings.batch_size)
        model = compiled_model(settings, num_items)
        steppers[label] = stepping.Stepper(model, batches, warm_up=scale.warm_up)
    blocks = {label: partial(one.run, scale.steps) for label, one in steppers.items()}
    seconds = rounds.interleave(blocks, num_rounds, say=say)
    # The next method's tables need the memory of these; TensorFlow's cycles wait for the collector.
    del model, steppers, blocks
    tf.keras.backend.clear_session()
    gc.collect()
    return {label: [1e3 * one / scale.steps for one in seconds[label]] for label in scale.catalogues}


def _distinct_rows(scale: Scale) -> dict[str, float]:
    """Rows of the table that a step of `base` touches, the mean over some batches, by label."""
    random = np.random.default_rng(0)
    found = {}
    for label, num_items in scale.catalogues.items():
        counts = []
        for batch in log.zipf_batches(num_items, scale.settings, 4):
            sampled = random.integers(1, num_items + 1, scale.settings.num_sampled)
            touched = np.concatenate([batch["history"].ravel(), batch["target"], sampled])
            counts.append(len(np.unique(touched)))
        found[label] = float(np.mean(counts))
    return found
