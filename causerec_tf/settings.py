"""Every setting of a run: its default, meaning and bounds, and when it acts. The only place that has them."""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from causerec_tf.data.splits.protocols import TRAIN_ON
from causerec_tf.data.target_events import TargetEvents
from causerec_tf.errors import InputError
from causerec_tf.metrics import CUTOFFS
from causerec_tf.recipes import (
    BLOCKS,
    CONCEPT_SCORES,
    LOSSES,
    MATCHINGS,
    METHODS,
    ROUTING_INITS,
    SAMPLERS,
    USER_TOWERS,
)

if TYPE_CHECKING:
    from causerec_tf.data.sequences import Dataset

TOWERS = tuple(USER_TOWERS)
SEVERAL_VECTORS = ("mind", "comirec_sa", "comirec_dr")
ATTENTIVE = ("sasrec", "mean_sasrec")
CAUSAL = ("mean", "youtube_dnn", "gru4rec", *ATTENTIVE)
FILTERS = ("bsarec", "bsarec_causal")
TRAINING_ROWS = ("windows", "sequences")
SIMILARITIES = ("dot", "cosine")
SCHEDULES = ("constant", "linear")
RETURNS = ("as_others", "learned")
PRECISIONS = ("float32", "mixed_bfloat16")
RECIPE_LABELS = ("paper", "tuned")
STRATEGIES = ("one_device", "mirrored", "multi_worker", "parameter_server")
WITHOUT_SEEN = "_without_seen"  # behind a metric whose lists and targets leave seen items out
_CHOOSES = re.compile(rf"(recall|ndcg|hr|mrr)@({'|'.join(map(str, CUTOFFS))})({WITHOUT_SEEN})?")

# When a setting acts: a test of the other settings, and its words.
_Acts = tuple[Callable[["Settings"], bool], str]

_AT_LEAST_0 = (lambda value: value >= 0, "0 or more")
_AT_LEAST_1 = (lambda value: value >= 1, "1 or more")
_A_SHARE = (lambda value: 0 <= value < 1, "0 or more, less than 1")
_ABOVE_0 = (lambda value: value > 0, "more than 0")

_OF_SEVERAL: _Acts = (lambda s: s.tower in SEVERAL_VECTORS, f"--tower={'|'.join(SEVERAL_VECTORS)}")
_OF_ROUTING_MAPS: _Acts = (
    lambda s: s.tower == "comirec_dr" and not s.warm_start,
    "--tower=comirec_dr and no --warm_start",
)
_OF_INTERESTS: _Acts = (lambda s: s.reads_interests, "--method=interest or hierarchical")
_OF_SAMPLES: _Acts = (
    lambda s: s.sampler not in ("full", "in_batch"),
    "--sampler=uniform, log_uniform or mixed",
)
_OF_COSINE_CONTRASTIVE: _Acts = (
    lambda s: s.matching == "cosine_contrastive",
    "--matching=cosine_contrastive",
)
_OF_METHODS: _Acts = (lambda s: s.method != "base", "--method=item, interest or hierarchical")
_OF_POSITIVES: _Acts = (
    lambda s: s.method != "base" and s.num_positives > 0,
    "--method=item, interest or hierarchical and --num_positives of 1 or more",
)
_OF_PAIRS: _Acts = (
    lambda s: s.method != "base" and s.num_positives > 0 and s.num_negatives > 0,
    "--method=item, interest or hierarchical and --num_positives and --num_negatives of 1 or more",
)
_VALIDATED: _Acts = (lambda s: s.stop_after == 0, "--stop_after=0")
_OF_ITEMS: _Acts = (lambda s: s.method in ("item", "hierarchical"), "--method=item or hierarchical")
_OF_FILTER: _Acts = (
    lambda s: s.has_filter,
    f"--tower={'|'.join(ATTENTIVE)} and --block=bsarec or bsarec_causal",
)
_OF_CAUSAL: _Acts = (
    lambda s: s.is_causal,
    f"--tower={'|'.join(CAUSAL)} and --method=base or item; not --block=bsarec, but bsarec_causal",
)
_OF_SEQUENCES: _Acts = (
    lambda s: s.whole_sequences and s.method == "item",
    "--training_rows=sequences and --method=item",
)
_OF_FEATURES: _Acts = (lambda s: s.features != "none", "--features other than none")
_OF_WINDOWS_WITH_FEATURES: _Acts = (
    lambda s: s.features != "none" and not s.whole_sequences,
    "--training_rows=windows and --features other than none",
)
_OF_SASREC: _Acts = (lambda s: s.attends, f"--tower={'|'.join(ATTENTIVE)}")


def _setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    bound: tuple[Callable[[Any], bool], str] | None = None,
    acts: _Acts | None = None,
):
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices, "bound": bound, "acts": acts}
    )


@dataclass(frozen=True)
class DataSettings:
    """What is read."""

    dataset: str = _setting("", "Directory made by pipelines/prepare.py.")
    max_history: int = _setting(20, "How many of the last items the tower reads.", bound=_AT_LEAST_1)
    train_on: str = _setting(
        "train",
        "before_test: train on every event before the targets of the test split, as after settings and epochs"
        " were chosen; for a dataset whose protocol is not users.",
        choices=TRAIN_ON,
    )
    targets_ahead: int = _setting(
        1,
        "The target is drawn from so many items that follow the history; 1: the next item.",
        bound=_AT_LEAST_1,
    )
    training_rows: str = _setting(
        "windows",
        "What a row of a batch is. windows: a history and its target; sequences: a whole sequence with a"
        " target at every position. --batch_size counts rows.",
        choices=TRAINING_ROWS,
        acts=_OF_CAUSAL,
    )
    target_events: str = _setting(
        "",
        "Only events of these kinds, separated by commas, are targets in training and evaluation; all kinds"
        " stay in the history. Empty: every event.",
        acts=(
            lambda s: bool(s.target_events) and s.targets_ahead == 1 and not s.whole_sequences,
            "--training_rows=windows and --targets_ahead=1",
        ),
    )
    event_kind: str = _setting(
        "",
        "Column of the dataset's schema, categorical and of events, that has an event's kind.",
        acts=(lambda s: bool(s.target_events), "--target_events"),
    )
    weight_column: str = _setting(
        "",
        "Column of the dataset's schema, numeric and of events, by which a target counts in training. Empty:"
        " all count alike.",
        acts=(lambda s: bool(s.weight_column), "the name of a column"),
    )


@dataclass(frozen=True)
class ModelSettings:
    """The towers."""

    method: str = _setting(
        "base",
        "base: the tower alone; item: CauseRec-Item around it; interest, hierarchical: CauseRec-Interest and"
        " CauseRec-H, where the tower reads interest concepts instead of items.",
        choices=("base", *METHODS),
    )
    tower: str = _setting("mean", "User tower. mean: mean pooling and an MLP, the paper's.", choices=TOWERS)
    embedding_dim: int = _setting(64, "Size of item and user vectors.", bound=_AT_LEAST_1)
    similarity: str = _setting(
        "dot",
        "How users and items are matched: by inner product, or by the cosine: of vectors of length one.",
        choices=SIMILARITIES,
    )
    item_init_std: float = _setting(
        0.0,
        "Standard deviation of initial item vectors; 0: 1 / sqrt(embedding_dim), a length of one on average,"
        " and .02 beside features of items, which are learned first then.",
        bound=_AT_LEAST_0,
        acts=(lambda s: not s.warm_start, "no --warm_start"),
    )
    features: str = _setting(
        "all",
        "Columns of the dataset's schema that the model reads. all; none; or some of them, such as"
        " item/category,user/age.",
    )
    feature_init_std: float = _setting(
        0.1,
        "Standard deviation of the initial weights of what encodes features.",
        bound=_AT_LEAST_0,
        acts=_OF_FEATURES,
    )
    id_dropout: float = _setting(
        0.02,
        "Share of each step's items that are what their features say alone, of a dataset with item features.",
        bound=_A_SHARE,
        acts=_OF_FEATURES,
    )
    history_dropout: float = _setting(
        0.0,
        "Share of training examples whose history is left out, of a dataset with columns of users or"
        " requests: by these a user without a history is then answered.",
        bound=_A_SHARE,
        acts=_OF_WINDOWS_WITH_FEATURES,
    )
    returns: str = _setting(
        "as_others",
        "How items of the history are ranked. as_others: by their vectors alone; learned: with a term that"
        " learns how likely a user comes back.",
        choices=RETURNS,
    )
    item_dropout: float = _setting(
        0.0, "Share of the item vectors' values that is dropped in training.", bound=_A_SHARE
    )
    num_interests: int = _setting(
        4, "K: vectors per user, for towers with several.", bound=_AT_LEAST_1, acts=_OF_SEVERAL
    )
    routing_init: str = _setting(
        "random",
        "What ComiRec-DR's maps, one for each interest and position, start from. identity: the identity and"
        " normal noise of deviation .02; random: normal, a vote as long as its item; published: normal with"
        " deviation 1, as in the authors' code.",
        choices=tuple(ROUTING_INITS),
        acts=_OF_ROUTING_MAPS,
    )
    biases: str = _setting(
        "paper",
        "Of ComiRec-SA's attention and MIND's bilinear map. paper: none; code: as in ComiRec's code.",
        choices=("paper", "code"),
        acts=(lambda s: s.tower in ("comirec_sa", "mind"), "--tower=comirec_sa or mind"),
    )
    num_concepts: int = _setting(
        20, "K: interest concepts per history.", bound=_AT_LEAST_1, acts=_OF_INTERESTS
    )
    attention_dim: int = _setting(
        64, "d_a: width of the attention that extracts them.", bound=_AT_LEAST_1, acts=_OF_INTERESTS
    )

    block: str = _setting(
        "paper",
        "What SASRec is made of. paper: its own block; ligr: LiGR's gated one; bsarec: BSARec's, with a"
        " filter of frequencies beside the attention; bsarec_causal: whose filter sees nothing that follows.",
        choices=tuple(BLOCKS),
        acts=_OF_SASREC,
    )
    num_blocks: int = _setting(2, "Blocks of SASRec.", bound=_AT_LEAST_1, acts=_OF_SASREC)
    num_heads: int = _setting(
        1,
        "Heads of each block's attention; a divisor of --embedding_dim.",
        bound=_AT_LEAST_1,
        acts=_OF_SASREC,
    )
    feedforward_dim: int = _setting(
        0,
        "Hidden width of each block's feed-forward network. 0: the block's own.",
        bound=_AT_LEAST_0,
        acts=_OF_SASREC,
    )
    dropout: float = _setting(
        0.0,
        "Share of SASRec's values that is dropped in training.",
        bound=_A_SHARE,
        acts=_OF_SASREC,
    )
    filter_share: float = _setting(
        0.7,
        "alpha of BSARec: the filter's share, the attention has the rest.",
        bound=(lambda value: 0 <= value <= 1, "0 to 1"),
        acts=_OF_FILTER,
    )
    filter_frequencies: int = _setting(
        5, "c of BSARec: the lowest c // 2 + 1 frequencies pass.", bound=_AT_LEAST_1, acts=_OF_FILTER
    )

    @property
    def attends(self) -> bool:
        """Whether the tower has SASRec's blocks."""
        return self.tower in ATTENTIVE

    @property
    def has_filter(self) -> bool:
        """Whether the tower's blocks filter frequencies."""
        return self.attends and self.block in FILTERS

    @property
    def is_causal(self) -> bool:
        """Whether the tower reads items causally."""
        sees_what_follows = self.has_filter and self.block == "bsarec"
        return self.tower in CAUSAL and not self.reads_interests and not sees_what_follows

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


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is minimised."""

    matching: str = _setting(
        "softmax",
        "L_matching. softmax: over the target and its negatives; cosine_contrastive: SimpleX's loss, which"
        " pushes away the negatives that are nearer than --margin; it wants --similarity=cosine.",
        choices=tuple(MATCHINGS),
    )
    temperature: float = _setting(
        1.0,
        "What the softmax's similarities are divided by.",
        bound=_ABOVE_0,
        acts=(lambda s: s.matching == "softmax", "--matching=softmax"),
    )
    margin: float = _setting(
        0.4,
        "m of the cosine contrastive loss: negatives with a smaller cosine add nothing.",
        bound=(lambda value: -1 <= value < 1, "-1 or more, less than 1"),
        acts=_OF_COSINE_CONTRASTIVE,
    )
    negative_weight: float = _setting(
        150.0,
        "w of the cosine contrastive loss: the weight of the mean over the negatives.",
        bound=_ABOVE_0,
        acts=_OF_COSINE_CONTRASTIVE,
    )
    return_weight: float = _setting(
        0.1,
        "What a target that is a return counts in what vectors learn from, beside 1 of a new one. What is"
        " learned of returns themselves has no such weight.",
        bound=_AT_LEAST_0,
        acts=(lambda s: s.returns == "learned", "--returns=learned"),
    )
    sampler: str = _setting(
        "uniform",
        "Negatives, shared by the batch. full: the whole catalogue; in_batch: the batch's other targets,"
        " corrected by how often items are targets; mixed: these and --num_sampled uniform ones.",
        choices=tuple(SAMPLERS),
    )
    num_sampled: int = _setting(4096, "Negatives per step.", bound=_AT_LEAST_1, acts=_OF_SAMPLES)
    readout: str = _setting(
        "attention",
        "Which of MIND's vectors are trained. attention: all, by the label-aware attention of its paper;"
        " nearest: the one that fits the target best, its limit and what ComiRec's code does.",
        choices=("attention", "nearest"),
        acts=(lambda s: s.tower == "mind", "--tower=mind"),
    )
    attention_power: float = _setting(
        1.0,
        "p of the label-aware attention; the larger, the nearer to taking the best interest alone.",
        bound=_AT_LEAST_0,
        acts=(
            lambda s: s.tower == "mind" and s.readout == "attention",
            "--tower=mind and --readout=attention",
        ),
    )
    num_positives: int = _setting(
        1, "M: counterfactual positives per example.", bound=_AT_LEAST_0, acts=_OF_METHODS
    )
    num_negatives: int = _setting(
        8, "N: counterfactual negatives per example.", bound=_AT_LEAST_0, acts=_OF_METHODS
    )
    replacement_rate: float = _setting(
        0.5,
        "r_rep: share of a half that is replaced.",
        bound=(lambda value: 0 < value <= 1, "more than 0, at most 1"),
        acts=_OF_METHODS,
    )
    nearest_of: int = _setting(
        1,
        "The substitute of an item is the nearest of so many items drawn from the memory (ours); 1: any, as"
        " in the paper.",
        bound=_AT_LEAST_1,
        acts=_OF_ITEMS,
    )
    memory_size: int = _setting(
        65536, "Concepts a memory holds: item ids, interests.", bound=_AT_LEAST_1, acts=_OF_METHODS
    )
    concept_scores: str = _setting(
        "target",
        "What tells indispensable concepts from dispensable ones. target: equations 5 and 8; random: nothing,"
        " which makes the synthesis a plain augmentation, to compare with.",
        choices=tuple(CONCEPT_SCORES),
        acts=_OF_METHODS,
    )
    counterfactual_positions: int = _setting(
        1,
        "At how many positions of a whole sequence, drawn anew in each step, counterfactuals are made.",
        bound=_AT_LEAST_1,
        acts=_OF_SEQUENCES,
    )
    lambda_co: float = _setting(1.0, "Weight of L_co (equation 9).", bound=_AT_LEAST_0, acts=_OF_PAIRS)
    lambda_ii: float = _setting(1.0, "Weight of L_ii (equation 10).", bound=_AT_LEAST_0, acts=_OF_METHODS)
    lambda_cm: float = _setting(
        0.0,
        "Weight of the matching loss of the counterfactual positives (ours; not in the paper).",
        bound=_AT_LEAST_0,
        acts=_OF_POSITIVES,
    )


@dataclass(frozen=True)
class OptimisationSettings:
    """How it is minimised."""

    seed: int = _setting(
        0,
        "Of initial weights, order, negatives and synthesis.",
        bound=(lambda value: 0 <= value < 1 << 31, "0 to 2147483647"),
    )
    epochs: int = _setting(10, "Epochs at most.", bound=_AT_LEAST_1)
    stop_after: int = _setting(
        0,
        "End after so many epochs, without validation, as where --like retrains a chosen run; 0: validation"
        " and patience decide.",
        bound=_AT_LEAST_0,
    )
    batch_size: int = _setting(1024, "Examples per step; of whole sequences, these.", bound=_AT_LEAST_1)
    learning_rate: float = _setting(0.005, "Adam's step size.", bound=_ABOVE_0)
    learning_rate_schedule: str = _setting(
        "constant",
        "linear: it falls to 0 over all --epochs, also where patience ends the run before.",
        choices=SCHEDULES,
    )
    adam_beta_2: float = _setting(
        0.99,
        "Decay of Adam's second moment.",
        bound=_A_SHARE,
    )
    weight_decay: float = _setting(
        1e-5,
        "L2 in the gradient of the rows that --update_rows names. On touched rows alone it is weaker than the"
        " same number in PyTorch.",
        bound=_AT_LEAST_0,
    )
    update_rows: str = _setting(
        "touched",
        "Rows of the item table that a step changes. touched: those it looks up, at a cost that does not grow"
        " with the catalogue; all: the others too, by their moments and weight decay, as PyTorch's Adam.",
        choices=("touched", "all"),
    )
    precision: str = _setting(
        "float32",
        "Of the user tower's products. mixed_bfloat16 is for hardware that has it: variables, losses and"
        " item vectors stay float32.",
        choices=PRECISIONS,
    )
    choose_by: str = _setting(
        "recall@50",
        "The figure of the validation users that picks the epoch and stops early, such as ndcg@10;"
        " ndcg@10_without_seen: with seen items left out of lists and targets.",
        bound=(
            lambda value: _CHOOSES.fullmatch(value) is not None,
            "recall, ndcg, hr or mrr at 10, 20 or 50, such as ndcg@10, or ndcg@10_without_seen",
        ),
        acts=_VALIDATED,
    )
    warm_start: str = _setting("", "Directory of an earlier run whose towers this one starts from.")


@dataclass(frozen=True)
class RuntimeSettings:
    """Where and how it runs, and what its record is called. A run may go on with others."""

    run: str = _setting("", "Directory of the run; an unfinished run found there is resumed.")
    patience: int = _setting(
        3, "Epochs without a better validation score before stopping.", bound=_AT_LEAST_1, acts=_VALIDATED
    )
    steps_per_execution: int = _setting(
        1, "Steps between two returns to Python; more for tiny steps.", bound=_AT_LEAST_1
    )
    checkpoint_steps: int = _setting(1000, "Steps between checkpoints within an epoch.", bound=_AT_LEAST_1)
    strategy: str = _setting(
        "one_device",
        "Where it trains. mirrored: on every device of this machine; multi_worker, parameter_server: on the"
        " tasks of TF_CONFIG. --batch_size is that of all replicas together.",
        choices=STRATEGIES,
    )
    recipe_label: str = _setting("paper", "What the record calls these settings.", choices=RECIPE_LABELS)
    variant: str = _setting(
        "",
        "What the record calls a departure from the system's recipe, such as without_co.",
        bound=(lambda value: re.fullmatch("[a-z0-9_]*", value) is not None, "a-z, 0-9 and _ only"),
    )


GROUPS: tuple[type, ...] = (
    DataSettings,
    ModelSettings,
    ObjectiveSettings,
    OptimisationSettings,
    RuntimeSettings,
)


# Dataclasses collect their fields from the last base to the first.
@dataclass(frozen=True)
class Settings(RuntimeSettings, OptimisationSettings, ObjectiveSettings, ModelSettings, DataSettings):
    """The settings of one training run, in five groups.

    Defaults are the paper's for CauseRec-Item, or ours where it is silent. For CauseRec-Interest and
    CauseRec-H the paper has up to 30 epochs, for CauseRec-H M = 2 and N = 16, half of them on each level.

    Raises:
      InputError: a value is out of bounds.
    """

    def __post_init__(self):
        """Checks the bounds."""
        for field in dataclasses.fields(self):
            value, choices, bound = getattr(self, field.name), *_bounds(field)
            if choices is not None and value not in choices:
                raise InputError(f"--{field.name}={value}: wanted one of {', '.join(choices)}.")
            if bound is not None and not bound[0](value):
                raise InputError(f"--{field.name}={value}: wanted {bound[1]}.")
        if self.train_on == TRAIN_ON[1] and not self.stop_after:
            raise InputError(
                f"--train_on={self.train_on} trains on what validation asks for, so that no epoch can be"
                " chosen by it. Name a chosen run with --like, or a number of epochs with --stop_after."
            )
        if self.target_events and not self.event_kind:
            raise InputError(
                f"--target_events={self.target_events} needs --event_kind: the column that has a kind."
            )
        if self.stop_after > self.epochs:
            raise InputError(
                f"--stop_after={self.stop_after} with --epochs={self.epochs}: wanted as many epochs or more."
            )
        if self.attends and self.embedding_dim % self.num_heads:
            raise InputError(
                f"--num_heads={self.num_heads}: wanted a divisor of --embedding_dim={self.embedding_dim}."
            )
        if self.method == "base":
            return
        if self.num_positives + self.num_negatives == 0:
            raise InputError(
                f"--method={self.method} with --num_positives=0 and --num_negatives=0 has nothing to"
                " synthesise: raise one of them, or use --method=base."
            )
        if self.method == "interest" and self.nearest_of > 1:
            raise InputError(
                f"--nearest_of={self.nearest_of} with --method=interest: any interest replaces one, wanted 1."
            )

    @property
    def last_epoch(self) -> int:
        """The epochs at most."""
        return self.stop_after or self.epochs

    @property
    def whole_sequences(self) -> bool:
        """Whether a row of a batch is a whole sequence."""
        return self.training_rows == "sequences" and self.is_causal

    def view_of(self, dataset: "Dataset") -> "Dataset":
        """A dataset as these settings train on it and measure.

        Raises:
          InputError: the dataset lacks what they ask for.
        """
        acting = self.acting()
        kinds = acting.get("target_events", "")
        targets = TargetEvents(
            self.event_kind if kinds else "", tuple(kinds.split(",")) if kinds else (), self.weight_column
        )
        return dataset.for_training(self.train_on, targets)

    def acting(self) -> dict[str, Any]:
        """The settings that have an effect beside the others, name -> value, in the order of the groups."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata["acts"] is None or field.metadata["acts"][0](self)
        }

    def check_acting(self, given: list[str]) -> None:
        """Refuses settings that were asked for and have no effect.

        Args:
          given: the names of those that were asked for one by one.

        Raises:
          InputError: one of them has no effect beside the others; the message says what it needs.
        """
        acting = self.acting()
        for field in dataclasses.fields(self):
            if field.name in given and field.name not in acting:
                raise InputError(
                    f"--{field.name}={getattr(self, field.name)} has no effect here: it acts with"
                    f" {field.metadata['acts'][1]}. Leave it out, or add that."
                )
        weights = [f"lambda_{name}" for name in LOSSES]
        if "method" in given and self.method != "base" and not any(getattr(self, one) for one in weights):
            raise InputError(
                f"--method={self.method} has no effect here: {', '.join(f'--{one}' for one in weights)} are"
                " all 0. Give one of them a weight, or use --method=base."
            )

    def identity(self) -> dict[str, Any]:
        """The settings that make a run what it is: all that act, but for places and runtime.

        More epochs go on with a run whose learning rate is constant; with another schedule they change every
        step.
        """
        outside = {field.name for field in dataclasses.fields(RuntimeSettings)} | {"dataset"}
        if self.learning_rate_schedule == "constant":
            outside.add("epochs")
        return {name: value for name, value in self.acting().items() if name not in outside}

    def to_flagfile(self) -> str:
        """A flagfile that reruns the run: the acting settings, one `--name=value` a line."""
        return "".join(f"--{name}={value}\n" for name, value in self.acting().items())


def _bounds(field: dataclasses.Field) -> tuple[Any, Any]:
    return field.metadata["choices"], field.metadata["bound"]
