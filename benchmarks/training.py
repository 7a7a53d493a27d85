"""Training: examples/s of our systems, of TFRS's two-tower and RecBole's SASRec, and the machine's limits.

Every round times a block of steps of each system, one after the other, on the same batches in memory.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import log, machine, peers, pictures, products, rounds, sequence_training, stepping
from benchmarks.report import Result
from causerec_tf import flagfiles
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.windows import training_batches
from causerec_tf.settings import Settings
from causerec_tf.training import compiled_model, know

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("base", "item")
IN_BATCH = "base_in_batch"  # of which the batch's other targets are the negatives, as of the peers
MIXED = "_bfloat16"  # after the name of a system whose products are in mixed precision
# The recommended recipe, without and with its nearest-neighbour counterfactual augmentation.
RECOMMENDED = Path("configs/recommended.flags")
TUNED = {"tuned_base": "base", "tuned_near": "item"}
SIZES = ("batch_size", "num_sampled", "embedding_dim", "memory_size")  # of a measurement, whatever the recipe
PEERS = {
    "tfrs_adam": peers.two_tower_adam,
    "tfrs_adam_shared_table": peers.two_tower_adam_shared_table,
    "tfrs_adagrad": peers.two_tower_adagrad,
}


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      settings: of our systems; method and tower are put in.
      steps: of a block.
      warm_up: steps before the first round.
      batches: that are kept in memory and gone through again and again.
      square: side of the large square product.
      towers: that are measured; the paper's is always among them.
    """

    settings: Settings = dataclasses.field(default_factory=Settings)
    steps: int = 40
    warm_up: int = 15
    batches: int = 64
    square: int = 2048
    towers: tuple[str, ...] = ("mean",)


def measure(dataset: Dataset, scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures the towers with and without CauseRec-Item, the peers, the pipeline and the machine.

    The paper's tower is also measured in mixed precision, which tells whether this machine has it, and the
    tuned recipe with and without its positives.

    Args:
      dataset: to train on.
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; examples/s of each system are the measures named after it.
    """
    batches = log.first_batches(dataset, scale.settings, scale.batches)
    models: dict[str, Callable] = {}
    for tower in scale.towers:
        for method in METHODS:
            settings = dataclasses.replace(scale.settings, method=method, tower=tower)
            models[settings.system] = partial(compiled_model, settings, dataset.num_items)
    for method in METHODS:
        settings = dataclasses.replace(scale.settings, method=method, precision="mixed_bfloat16")
        models[settings.system + MIXED] = partial(compiled_model, settings, dataset.num_items)
    models[IN_BATCH] = partial(_in_batch, scale.settings, dataset)
    for name, peer in PEERS.items():
        models[name] = partial(peer, dataset.num_items, scale.settings.embedding_dim)
    tuned = {name: _recommended(method, scale.settings) for name, method in TUNED.items()}
    longer = log.first_batches(dataset, tuned["tuned_base"], scale.batches)
    models |= {name: partial(compiled_model, one, dataset.num_items) for name, one in tuned.items()}
    blocks: dict[str, Callable[[], object]] = {}
    for name, make in models.items():
        say(f"warming {name} up")
        read = longer if name in TUNED else batches
        stepper = stepping.Stepper(make(), read, warm_up=scale.warm_up)
        blocks[name] = partial(stepper.run, scale.steps)
    blocks["pipeline"] = partial(_read_epoch, dataset, scale.settings)
    by_rows = sequence_training.blocks(dataset, scale.settings, say)
    blocks |= {name: block.run for name, block in by_rows.items()}

    counted = _products_of_systems(scale.settings)
    limits = machine.Limits(
        [one for step in counted.values() for one in step],
        dataset.num_items + 1,
        scale.settings.embedding_dim,
        square=scale.square,
    )
    rates: list[dict] = []
    seconds = rounds.interleave(
        blocks, num_rounds, after_round=lambda: rates.append(limits.measure()), say=say
    )

    result = Result("training", details=_details(dataset, scale, counted))
    pipeline = rounds.per_second(dataset.num_training_windows, seconds.pop("pipeline"))
    examples = dict.fromkeys(models, scale.steps * scale.settings.batch_size)
    examples |= {name: block.predictions for name, block in by_rows.items()}
    speeds = {name: rounds.per_second(examples[name], taken) for name, taken in seconds.items()}
    _add_ratios(result, speeds, pipeline, scale.towers)
    sequence_training.add_ratios(result.ratios, speeds)
    for name, speed in speeds.items():
        result.add(name, "examples/s", speed)
    result.add("pipeline", "windows/s", pipeline)
    _add_limits(result, scale, seconds, counted, rates)
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws examples/s of all systems."""
    systems = [one for one in result.measures if one.unit == "examples/s"]
    pictures.draw_bars(directory / "training.png", "Training, median and range of rounds", systems)


def _recommended(method: str, scale: Settings) -> Settings:
    """The recommended recipe around a method, at the sizes of the measurement."""
    sizes = {name: getattr(scale, name) for name in SIZES}
    return dataclasses.replace(flagfiles.read(ROOT / RECOMMENDED), method=method, **sizes)


def _in_batch(scale: Settings, dataset: Dataset):
    """The paper's tower with the negatives that TFRS's task has."""
    model = compiled_model(dataclasses.replace(scale, sampler="in_batch"), dataset.num_items)
    know(model, dataset)
    return model


def _add_ratios(
    result: Result, speeds: dict[str, list[float]], pipeline: list[float], towers: Sequence[str]
) -> None:
    """Ratios of examples/s, and of the times of a step (which are those of examples/s turned over)."""
    result.ratios["base_over_tfrs"] = rounds.quotients(speeds["base"], speeds["tfrs_adam"])
    for tower in towers:
        base, item = (Settings(method=method, tower=tower).system for method in METHODS)
        result.ratios[f"{item}_step_over_{base}"] = rounds.quotients(speeds[base], speeds[item])
    result.ratios["tuned_near_step_over_tuned_base"] = rounds.quotients(
        speeds["tuned_base"], speeds["tuned_near"]
    )
    for system in ("base", "causerec_item"):
        result.ratios[f"{system}{MIXED}_over_{system}"] = rounds.quotients(
            speeds[system + MIXED], speeds[system]
        )
    result.ratios[f"causerec_item{MIXED}_step_over_base{MIXED}"] = rounds.quotients(
        speeds[f"base{MIXED}"], speeds[f"causerec_item{MIXED}"]
    )
    for peer in ("tfrs_adam_shared_table", "tfrs_adagrad"):
        result.ratios[f"base_over_{peer}"] = rounds.quotients(speeds["base"], speeds[peer])
        result.ratios[f"{IN_BATCH}_over_{peer}"] = rounds.quotients(speeds[IN_BATCH], speeds[peer])
    result.ratios["pipeline_over_base"] = rounds.quotients(pipeline, speeds["base"])


def _add_limits(
    result: Result,
    scale: Scale,
    seconds: dict[str, list[float]],
    counted: dict[str, list[products.Product]],
    rates: list[dict],
) -> None:
    """Adds the machine's rates and what part of them the steps reach."""
    square = [max(rate["square_tensorflow"], rate["square_numpy"]) for rate in rates]
    result.add("machine_square_product", "GFLOP/s", square)
    result.add("machine_row_gather", "rows/s", [rate["gather"] for rate in rates])
    result.add("machine_row_scatter", "rows/s", [rate["scatter"] for rate in rates])
    for name, step in counted.items():
        steps = [taken / scale.steps for taken in seconds[name]]
        alone = [machine.products_alone(step, rate["products"]) for rate in rates]
        gigaflops = 1e-9 * result.details["operations_a_step"][name]
        result.add(f"{name}_step", "ms", [1e3 * one for one in steps])
        result.add(f"{name}_products_alone", "ms", [1e3 * one for one in alone])
        result.add(
            f"{name}_of_square_product",
            "fraction",
            [gigaflops / one / limit for one, limit in zip(steps, square, strict=True)],
        )
        result.add(f"{name}_of_own_products", "fraction", rounds.quotients(alone, steps))
    result.details["products"] = [
        {
            "what": one.what,
            "shape": f"[{one.m}, {one.k}] [{one.k}, {one.n}]",
            "gflops": 1e-9
            * one.operations
            / statistics.median(machine.products_alone([one], rate["products"]) for rate in rates),
        }
        for one in dict.fromkeys(one for step in counted.values() for one in step)
    ]


def _products_of_systems(settings: Settings) -> dict[str, list[products.Product]]:
    """The products of each system whose formula is known: the mean tower and the peers."""
    sizes = {"batch_size": settings.batch_size, "width": settings.embedding_dim}
    encoded = 1 + settings.num_positives + settings.num_negatives
    counted = {
        "base": products.mean_tower_step(num_candidates=settings.num_sampled, **sizes),
        "causerec_item": products.mean_tower_step(
            num_candidates=settings.num_sampled, encoded=encoded, **sizes
        ),
    }
    for peer in PEERS:
        counted[peer] = products.mean_tower_step(num_candidates=settings.batch_size, **sizes)
    return counted


def _details(dataset: Dataset, scale: Scale, counted: dict[str, list[products.Product]]) -> dict:
    """Sizes, settings, operations, and the rows a step of `base` touches."""
    settings = scale.settings
    pooling = {
        "batch_size": settings.batch_size,
        "max_history": settings.max_history,
        "width": settings.embedding_dim,
    }
    encoded = 1 + settings.num_positives + settings.num_negatives
    operations = {name: sum(one.operations for one in step) for name, step in counted.items()}
    operations["base"] += products.pooling_operations(**pooling)
    operations["causerec_item"] += products.pooling_operations(encoded=encoded, **pooling)
    return {
        "scale": dataclasses.asdict(scale),
        "operations_a_step": operations,
        "distinct_rows_a_step_of_base": _distinct_rows(dataset, scale),
    }


def _distinct_rows(dataset: Dataset, scale: Scale) -> float:
    """Mean number of rows of the table that a step of `base` reads, updates and writes."""
    random = np.random.default_rng(0)
    counts = []
    for batch in log.first_batches(dataset, scale.settings, scale.batches).take(8).as_numpy_iterator():
        sampled = random.integers(1, dataset.num_items + 1, scale.settings.num_sampled)
        counts.append(len(np.unique(np.concatenate([batch["history"].ravel(), batch["target"], sampled]))))
    return statistics.mean(counts)


def _read_epoch(dataset: Dataset, settings: Settings) -> None:
    """Goes through an epoch of the pipeline without using what it gives."""
    batches = training_batches(
        dataset, batch_size=settings.batch_size, max_history=settings.max_history, seed=settings.seed, epoch=1
    )
    for _ in batches:
        pass
