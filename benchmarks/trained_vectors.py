"""Item and user vectors of a model that was trained here: what an index meets in earnest.

    python benchmarks/trained_vectors.py --output=datasets/trained_vectors

The queries of a two-tower are not distributed like its items. The log: 120,000 users with some thirty events
each over 320,000 items of 1,000 interests, a fifth of the events uniform over the catalogue
(`causerec_tf.data.generated.synthetic`, seed 0). The model: a linear mean of the last 50 items matched by the
cosine, the recommended recipe without its augmentation, after the first of three epochs; of the test users'
targets it finds .26 among the best 50, POP .003. Some minutes on one core; made once.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder would hide that it is a package

from causerec_tf.errors import InputError
from pipelines.command_line import command

FLAGS = flags.FLAGS

NUM_ITEMS = 300_000
_FILES = ("items", "tuning", "queries", "interests")
_WORLD = {"num_users": 120_000, "num_items": 320_000, "num_interests": 1_000, "seed": 0}
_SETTINGS = {
    "method": "base",
    "recipe_label": "tuned",
    "tower": "youtube_dnn",
    "max_history": 50,
    "similarity": "cosine",
    "temperature": 0.1,
    "learning_rate_schedule": "linear",
    "num_sampled": 1024,
    "epochs": 3,
    "stop_after": 1,
}


@dataclass(frozen=True)
class TrainedVectors:
    """What was trained.

    Attributes:
      items: float32 [300,000, 64], of length one; the most frequent in training first.
      tuning: float32 [Q, 64], vectors of the validation users.
      queries: float32 [Q, 64], vectors of the test users.
      interests: int64 [300,000], the interest that each item has in the log.
    """

    items: np.ndarray
    tuning: np.ndarray
    queries: np.ndarray
    interests: np.ndarray


def load_or_train(directory: Path, say: Callable[[str], None] = print) -> TrainedVectors:
    """Reads the vectors, after training them where they are not there.

    Args:
      directory: of the four files.
      say: told when something is trained.
    """
    if not all((directory / f"{name}.npy").exists() for name in _FILES):
        say(f"training {NUM_ITEMS:,} item vectors in {directory}, once")
        _train(directory)
    return TrainedVectors(*(np.load(directory / f"{name}.npy") for name in _FILES))


def _train(directory: Path) -> None:
    import causerec_tf as cr
    from causerec_tf import evaluation
    from causerec_tf.data.dataset_files import INFO_FILE
    from causerec_tf.data.generated import synthetic
    from causerec_tf.data.holdout import evaluation_users

    work = directory.with_name(f"{directory.name}.work")  # what was stopped goes on here
    world = synthetic.generate(**_WORLD)
    if (work / "dataset" / INFO_FILE).exists():
        dataset = cr.open_dataset(work / "dataset")
    else:
        dataset = cr.prepare(world.events(), work / "dataset", user="user", item="item", time="time")
    run = cr.train(dataset, work / "run", test=False, progress=False, **_SETTINGS)
    print(run.evaluate().select("system", "users", "recall@50"))

    def vectors(split: str) -> np.ndarray:
        return evaluation.user_vectors(
            run.model, evaluation_users(dataset.read(split), run.model.max_history).history
        )

    ids = dataset.item_ids()[:NUM_ITEMS]
    interest_of = dict(zip(world.item_ids, world.item_interest, strict=True))
    arrays = {
        "items": run.model.item_vectors()[:NUM_ITEMS],
        "tuning": vectors("validation"),
        "queries": vectors("test"),
        "interests": np.array([interest_of[item] for item in ids], np.int64),
    }
    made = work / "vectors"
    made.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(made / f"{name}.npy", array)
    (made / "made.json").write_text(json.dumps({"world": _WORLD, "settings": _SETTINGS}, indent=2) + "\n")
    shutil.rmtree(directory, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made.rename(directory)
    shutil.rmtree(work)


def main() -> None:
    """Trains the vectors, or says that they are there."""
    made = load_or_train(Path(FLAGS.output))
    shapes = ", ".join(f"{name} {list(getattr(made, name).shape)}" for name in _FILES)
    print(f"{FLAGS.output}: {shapes}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "datasets/trained_vectors", "Directory of the vectors.")
    command.run(main, bad_input=(InputError,))
