"""Every setting of a run: its default, its meaning, its bounds. The only place that has them."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from causerec_tf.errors import InputError

METHODS = ("base", "item", "interest", "hierarchical")
TOWERS = ("mean", "youtube_dnn", "gru4rec", "sasrec", "mind", "comirec_sa", "comirec_dr")
SIMILARITIES = ("dot", "cosine")
CONCEPT_SCORES = ("target", "random")
SAMPLERS = ("uniform", "log_uniform", "full")
SCHEDULES = ("constant", "linear")
PRECISIONS = ("float32", "mixed_bfloat16")
RECIPES = ("paper", "tuned")
STRATEGIES = ("one_device", "mirrored", "multi_worker", "parameter_server")
CHOSEN_BY = "recall@50"  # of the validation users: picks the epoch, stops early, picks among tuned settings


def _setting(default, help: str, choices: tuple[str, ...] | None = None):
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """The settings of one training run.

    Defaults are the paper's for CauseRec-Item, or ours where it is silent. For CauseRec-Interest and
    CauseRec-H the paper has up to 30 epochs, for CauseRec-H M = 2 and N = 16, half of them on each level.

    Raises:
      InputError: a value is out of bounds.
    """

    dataset: str = _setting("", "Directory made by pipelines/prepare.py.")
    run: str = _setting("", "Directory of the run; an unfinished run found there is resumed.")
    warm_start: str = _setting("", "Directory of an earlier run whose towers this one starts from.")
    method: str = _setting(
        "base",
        "base: the tower alone; item: CauseRec-Item around it; interest, hierarchical: CauseRec-Interest and"
        " CauseRec-H, where the tower reads interest concepts instead of items.",
        METHODS,
    )
    tower: str = _setting("mean", "User tower. mean: mean pooling and an MLP, the paper's.", TOWERS)
    num_interests: int = _setting(4, "K: vectors a user, of the towers that have several.")
    attention_power: float = _setting(
        1.0, "p of MIND's label-aware attention; the larger, the nearer to taking the best interest alone."
    )
    num_concepts: int = _setting(20, "K: interest concepts a history (interest, hierarchical).")
    attention_dim: int = _setting(64, "d_a: width of the attention that extracts them.")
    recipe: str = _setting("paper", "What the record calls these settings.", RECIPES)
    variant: str = _setting(
        "", "What the record calls a departure from the system's recipe, such as without_co."
    )
    seed: int = _setting(0, "Of initial weights, order, negatives and synthesis.")
    max_history: int = _setting(20, "How many of the last items the tower reads.")
    targets_ahead: int = _setting(
        1, "The target is drawn from so many items that follow the history; 1: the next item."
    )
    embedding_dim: int = _setting(64, "Size of item and user vectors.")
    epochs: int = _setting(10, "Epochs at most.")
    patience: int = _setting(3, "Epochs without a better validation Recall@50 before stopping.")
    batch_size: int = _setting(1024, "Examples a step.")
    learning_rate: float = _setting(0.005, "Adam's step size.")
    learning_rate_schedule: str = _setting(
        "constant",
        "linear: it falls to 0 over all --epochs, also where patience ends the run before.",
        SCHEDULES,
    )
    weight_decay: float = _setting(1e-5, "L2 in the gradient, on touched rows.")
    sampler: str = _setting(
        "uniform",
        "Negatives of the softmax, shared by the batch. full: the whole catalogue.",
        SAMPLERS,
    )
    num_sampled: int = _setting(4096, "Negatives a step (not used by the full sampler).")
    similarity: str = _setting(
        "dot",
        "How users and items are matched: by inner product, or by the cosine: of vectors of length one.",
        SIMILARITIES,
    )
    temperature: float = _setting(1.0, "What the softmax's similarities are divided by.")
    num_positives: int = _setting(1, "M: counterfactual positives an example.")
    num_negatives: int = _setting(8, "N: counterfactual negatives an example.")
    replacement_rate: float = _setting(0.5, "r_rep: share of a half that is replaced.")
    nearest_of: int = _setting(
        1,
        "An item's substitute is the nearest to it of so many draws from the memory (ours); 1: the paper's,"
        " any.",
    )
    memory_size: int = _setting(65536, "Concepts a memory holds: item ids, interests.")
    lambda_co: float = _setting(1.0, "Weight of L_co (equation 9).")
    lambda_ii: float = _setting(1.0, "Weight of L_ii (equation 10).")
    lambda_cm: float = _setting(
        0.0, "Weight of the matching loss of the counterfactual positives (ours; not in the paper)."
    )
    lambda_cn: float = _setting(
        0.0, "Weight of the ranking loss of history over counterfactual negatives (ours; not in the paper)."
    )
    concept_scores: str = _setting(
        "target",
        "What tells indispensable concepts from dispensable ones. target: equations 5 and 8; random: the lot,"
        " which makes the synthesis a plain augmentation, to compare with.",
        CONCEPT_SCORES,
    )
    precision: str = _setting(
        "float32",
        "Of the user tower's products. mixed_bfloat16 is for hardware that has it: variables, losses and"
        " item vectors stay float32.",
        PRECISIONS,
    )
    steps_per_execution: int = _setting(1, "Steps between two returns to Python; more for tiny steps.")
    checkpoint_steps: int = _setting(1000, "Steps between checkpoints within an epoch.")
    strategy: str = _setting(
        "one_device",
        "Where it trains. mirrored: on every device of this machine; multi_worker, parameter_server: on the"
        " tasks of TF_CONFIG. --batch_size is that of all replicas together.",
        STRATEGIES,
    )

    def __post_init__(self):
        """Checks the bounds."""
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices is not None and value not in choices:
                raise InputError(f"--{field.name}={value}: wanted one of {', '.join(choices)}.")
        for name in (
            *("max_history", "embedding_dim", "epochs", "patience", "batch_size"),
            *("num_sampled", "memory_size", "checkpoint_steps", "steps_per_execution", "num_interests"),
            *("num_concepts", "attention_dim", "targets_ahead", "nearest_of"),
        ):
            self._check(name, getattr(self, name) >= 1, "1 or more")
        for name in ("learning_rate", "temperature"):
            self._check(name, getattr(self, name) > 0, "more than 0")
        for name in (
            *("weight_decay", "lambda_co", "lambda_ii", "num_positives", "num_negatives"),
            *("lambda_cm", "lambda_cn", "attention_power"),
        ):
            self._check(name, getattr(self, name) >= 0, "0 or more")
        self._check("variant", re.fullmatch("[a-z0-9_]*", self.variant) is not None, "a-z, 0-9 and _ only")
        self._check("seed", 0 <= self.seed < 1 << 31, "0 to 2147483647")
        self._check("replacement_rate", 0 < self.replacement_rate <= 1, "more than 0, at most 1")
        if self.method != "base" and self.num_positives + self.num_negatives == 0:
            raise InputError(
                f"--method={self.method} with --num_positives=0 and --num_negatives=0 has nothing to"
                " synthesise: raise one of them, or use --method=base."
            )

        if self.method == "interest" and self.nearest_of > 1:
            raise InputError(
                f"--nearest_of={self.nearest_of} with --method=interest: any interest replaces one, wanted 1."
            )

    def _check(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise InputError(f"--{name}={getattr(self, name)}: wanted {wanted}.")

    @property
    def reads_interests(self) -> bool:
        """Whether the tower reads interest concepts instead of items."""
        return self.method in ("interest", "hierarchical")

    @property
    def system(self) -> str:
        """The name that records use, such as `base` or `causerec_item`."""
        if self.method == "base":
            return "base" if self.tower == "mean" else self.tower
        name = "causerec_h" if self.method == "hierarchical" else f"causerec_{self.method}"
        return name if self.tower == "mean" else f"{name}_{self.tower}"

    def to_flagfile(self) -> str:
        """A flagfile that reruns the run, one `--name=value` a line."""
        return "".join(f"--{field.name}={getattr(self, field.name)}\n" for field in dataclasses.fields(self))

    @classmethod
    def from_flagfile(cls, path: Path) -> "Settings":
        """Reads what `to_flagfile` wrote.

        Raises:
          InputError: the file is not there, or has a line that is not a setting.
        """
        if not path.is_file():
            raise InputError(f"{path} is missing: {path.parent} is not the directory of a run.")
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        values: dict = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            name, separator, value = line.removeprefix("--").partition("=")
            if not separator or name not in kinds:
                raise InputError(f"{path}: {line!r} is not a setting of this version.")
            kind = kinds[name]
            assert isinstance(kind, type)
            values[name] = kind(value)
        return cls(**values)
