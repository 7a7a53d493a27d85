"""Settings -> the parts of a model: the only place that turns names into classes.

A new tower, sampler or method is a file of its own and a line in one of these tables; a new loss also wants
the setting of its weight. What is composed by hand needs neither.
"""

import functools
import inspect
import pkgutil
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causerec_tf.errors import InputError

if TYPE_CHECKING:
    from causerec_tf.baselines.baseline import Baseline
    from causerec_tf.feature_recipes import DatasetFeatures
    from causerec_tf.features.context import ContextFeatures
    from causerec_tf.losses import WeightedLoss
    from causerec_tf.matching import SampledMatching
    from causerec_tf.model import CauseRec
    from causerec_tf.settings import Settings
    from causerec_tf.towers.base import UserTower

# Where a class is, and not the class: the settings know these names, and a wrong flag should not wait for
# TensorFlow.
USER_TOWERS = {
    "mean": "causerec_tf.towers.pooling:MeanPoolingTower",
    "youtube_dnn": "causerec_tf.towers.youtube_dnn:YouTubeDNNTower",
    "gru4rec": "causerec_tf.towers.gru:GRU4RecTower",
    "sasrec": "causerec_tf.towers.self_attention:SASRecTower",
    "mean_sasrec": "causerec_tf.towers.mean_and_attention:MeanSASRecTower",
    "mind": "causerec_tf.towers.capsules:MINDTower",
    "comirec_sa": "causerec_tf.towers.multi_interest:SelfAttentiveMultiInterestTower",
    "comirec_dr": "causerec_tf.towers.capsules:ComiRecDRTower",
}
# What SASRec is made of.
BLOCKS = {
    "paper": "causerec_tf.towers.attention_blocks:PaperBlock",
    "ligr": "causerec_tf.towers.attention_blocks:LiGRBlock",
    "bsarec": "causerec_tf.towers.frequency_block:BSARecBlock",
    "bsarec_causal": "causerec_tf.towers.frequency_block:CausalBSARecBlock",
}
METHODS = {
    "item": "causerec_tf.counterfactual.methods:CounterfactualItems",
    "interest": "causerec_tf.counterfactual.methods:CounterfactualInterests",
    "hierarchical": "causerec_tf.counterfactual.methods:CounterfactualHierarchy",
}
SAMPLERS = {
    "uniform": "causerec_tf.negatives:UniformSampler",
    "log_uniform": "causerec_tf.negatives:LogUniformSampler",
    "full": "causerec_tf.negatives:FullCatalogue",
    "in_batch": "causerec_tf.negatives:InBatchSampler",
    "mixed": "causerec_tf.negatives:MixedSampler",
}
MATCHINGS = {
    "softmax": "causerec_tf.matching:SampledSoftmax",
    "cosine_contrastive": "causerec_tf.cosine_contrastive:CosineContrastive",
}
CONCEPT_SCORES = {
    "target": "causerec_tf.counterfactual.concepts:scores_by_target",
    "random": "causerec_tf.counterfactual.concepts:random_scores",
}
# What ComiRec-DR's maps start from, as arguments of its tower.
ROUTING_INITS: dict[str, dict[str, Any]] = {
    "random": {},
    "identity": {"near_identity": True, "map_std": 0.02},
    "published": {"map_std": 1.0},
}
# The weight of each is the setting `lambda_<name>`.
LOSSES = {
    "co": "causerec_tf.losses:contrast_with_observation",
    "ii": "causerec_tf.losses:contrast_with_items",
    "cm": "causerec_tf.losses:match_positives",
}

# What is laid beside a model; of `pop` and `ease` also with a number, such as pop_30d and ease_200.
BASELINES = {
    "pop": "causerec_tf.baselines.popularity:Popular",
    "pop_7d": "causerec_tf.baselines.popularity:PopularOfLastDays",
    "own_past": "causerec_tf.baselines.own_past:OwnPast",
    "item_knn": "causerec_tf.baselines.item_neighbours:ItemNeighbours",
    "item_knn_recent": "causerec_tf.baselines.item_neighbours:ItemNeighbours",
    "vsknn": "causerec_tf.baselines.session_neighbours:SessionNeighbours",
    "ease": "causerec_tf.baselines.ease:Ease",
    "ials": "causerec_tf.baselines.als:AlternatingLeastSquares",
}
CHEAP_BASELINES = ("pop", "own_past")  # beside every trained model
# Of initial rows of the item table beside features: what they have to say beyond these comes later.
_STD_BESIDE_FEATURES = 0.02
_HALF_LIFE = 5.0  # of item_knn_recent: between what Beauty (2 to 4) and check-ins (10 to 16) like best

# The recipes by name, in the package so that a wheel has them.
FLAGFILES = Path(__file__).parent / "recipe_flagfiles"

_MOST_LOGITS = 1 << 28  # 1 GiB each for logits and exponentials


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in FLAGFILES.glob("*.flags"))


def flagfile(recipe: str | Path) -> Path:
    """Where a recipe is: one of `names`, or the path of a flagfile.

    Raises:
      InputError: there is no such recipe or file.
    """
    if Path(recipe).is_file():
        return Path(recipe)
    if str(recipe) in names():
        return FLAGFILES / f"{recipe}.flags"
    raise InputError(
        f"there is no recipe {str(recipe)!r}: wanted one of {', '.join(names())}, or a flagfile."
    )


def compose(settings: "Settings", num_items: int, features: "DatasetFeatures | None" = None) -> "CauseRec":
    """The model that the settings ask for.

    Args:
      settings: of the run.
      num_items: V, the catalogue's size without padding.
      features: what the dataset knows beyond user, item and time; None: nothing.

    Raises:
      InputError: the full softmax of these settings does not fit a machine, or the settings do not go with
        the features.
    """
    from causerec_tf import feature_recipes
    from causerec_tf.model import CauseRec
    from causerec_tf.returns import Returns
    from causerec_tf.towers.item import ItemTower

    terms = weighted_losses(settings)
    check_softmax(settings, num_items)
    features = features or feature_recipes.DatasetFeatures()
    of_items = feature_recipes.item_features(settings, features)
    initial_std = settings.acting().get("item_init_std") or (
        None if of_items is None else _STD_BESIDE_FEATURES
    )
    return CauseRec(
        ItemTower(
            num_items,
            settings.embedding_dim,
            similarity=settings.similarity,
            initial_std=initial_std,
            dropout=settings.item_dropout,
            features=of_items,
            id_dropout=settings.id_dropout,
            seed=settings.seed,
        ),
        user_tower(settings, feature_recipes.context_features(settings, features)),
        retrieval(settings),
        counterfactual=counterfactual(settings) if terms else None,
        losses=terms,
        max_history=settings.max_history,
        seed=settings.seed,
        whole_sequences=settings.whole_sequences,
        counterfactual_positions=settings.counterfactual_positions,
        returns=Returns(seed=settings.seed) if settings.returns == "learned" else None,
        history_dropout=settings.acting().get("history_dropout", 0.0),
    )


def user_tower(settings: "Settings", features: "ContextFeatures | None" = None) -> "UserTower":
    """The user tower, with all its weights; `features` are what it reads beside histories."""
    from causerec_tf.towers.context_tower import ContextTower
    from causerec_tf.towers.interest_attention import InterestAttention, InterestTower
    from causerec_tf.towers.unit_length import UnitLengthTower

    max_history = settings.num_concepts if settings.reads_interests else settings.max_history
    encoder = _made(
        functools.partial(pkgutil.resolve_name(USER_TOWERS[settings.tower]), dtype=settings.precision),
        embedding_dim=settings.embedding_dim,
        max_history=max_history,
        num_interests=settings.num_interests,
        use_bias=settings.biases == "code",
        num_blocks=settings.num_blocks,
        num_heads=settings.num_heads,
        feedforward_dim=settings.feedforward_dim,
        dropout=settings.dropout,
        block=_block(settings, max_history) if settings.attends else None,
        seed=settings.seed,
        **ROUTING_INITS[settings.routing_init],
    )
    unit_length = settings.similarity == "cosine"
    tower = UnitLengthTower(encoder) if unit_length and features is None else encoder
    if settings.reads_interests:
        attention = InterestAttention(
            settings.embedding_dim,
            num_concepts=settings.num_concepts,
            attention_dim=settings.attention_dim,
            seed=settings.seed,
            dtype=settings.precision,
        )
        tower = InterestTower(attention, tower)
    if features is not None:
        tower = ContextTower(tower, features, unit_length=unit_length)
    tower.build(None)
    return tower


def _block(settings: "Settings", max_history: int) -> Callable[..., Any]:
    """What makes a block of SASRec, of so many positions."""
    block = pkgutil.resolve_name(BLOCKS[settings.block])
    if settings.has_filter:
        block = functools.partial(block, alpha=settings.filter_share, c=settings.filter_frequencies)
    return functools.partial(block, max_history=max_history) if settings.block == "bsarec_causal" else block


def retrieval(settings: "Settings") -> "SampledMatching":
    """L_matching; of several vectors it trains the nearest to the target, or MIND's attention over them."""
    from causerec_tf.matching import label_aware_attention

    choose_interest = None
    if settings.tower == "mind" and settings.readout == "attention":
        choose_interest = functools.partial(label_aware_attention, power=settings.attention_power)
    sampler = _made(
        pkgutil.resolve_name(SAMPLERS[settings.sampler]),
        num_sampled=settings.num_sampled,
        batch_size=settings.batch_size,
    )
    return _made(
        pkgutil.resolve_name(MATCHINGS[settings.matching]),
        sampler=sampler,
        temperature=settings.temperature,
        margin=settings.margin,
        negative_weight=settings.negative_weight,
        return_weight=settings.return_weight,
        choose_interest=choose_interest,
    )


def counterfactual(settings: "Settings"):
    """The counterfactual part of a method; None for `base`."""
    if settings.method == "base":
        return None
    return _made(
        pkgutil.resolve_name(METHODS[settings.method]),
        num_positives=settings.num_positives,
        num_negatives=settings.num_negatives,
        replacement_rate=settings.replacement_rate,
        memory_size=settings.memory_size,
        scores=pkgutil.resolve_name(CONCEPT_SCORES[settings.concept_scores]),
        nearest_of=settings.nearest_of,
        embedding_dim=settings.embedding_dim,
    )


def weighted_losses(settings: "Settings") -> list["WeightedLoss"]:
    """The losses that act and have a weight; a method without any is its tower alone."""
    from causerec_tf.losses import WeightedLoss

    acting = settings.acting()
    weights = {name: acting.get(f"lambda_{name}", 0.0) for name in LOSSES}
    return [
        WeightedLoss(name, weights[name], pkgutil.resolve_name(place))
        for name, place in LOSSES.items()
        if weights[name] > 0
    ]


def baselines(names: Sequence[str], **settings: Any) -> dict[str, "Baseline"]:
    """Baselines by name, none fitted.

    Args:
      names: see `baseline_of`.
      **settings: of those baselines that have them: `most_memory`.

    Raises:
      InputError: there is no baseline of a name.
    """
    found = {name: baseline_of(name) for name in names}
    return {
        name: _made(pkgutil.resolve_name(place), **settings, **own) for name, (place, own) in found.items()
    }


def baseline_of(name: str) -> tuple[str, dict[str, Any]]:
    """Where the class of a baseline is, and what the name says of its settings.

    Args:
      name: of `BASELINES`, or `pop_<days>d` or `ease_<l2>`.

    Raises:
      InputError: there is none of this name.
    """
    days, l2 = re.fullmatch(r"pop_([1-9]\d{0,4})d", name), re.fullmatch(r"ease_(\d+(?:\.\d+)?)", name)
    if days:
        return BASELINES["pop_7d"], {"days": int(days[1])}
    if l2 and float(l2[1]) > 0:
        return BASELINES["ease"], {"l2": float(l2[1])}
    if name not in BASELINES:
        raise InputError(
            f"there is no baseline {name!r}: wanted some of {', '.join(BASELINES)}, or another number of days"
            " as in pop_30d, or an l2 as in ease_200."
        )
    return BASELINES[name], {"half_life": _HALF_LIFE} if name == "item_knn_recent" else {}


def _made(make: Callable[..., Any], **settings: Any) -> Any:
    """Makes a part of those settings that it has."""
    wanted = inspect.signature(make).parameters
    return make(**{name: value for name, value in settings.items() if name in wanted})


def check_softmax(settings: "Settings", num_items: int) -> None:
    """Raises `InputError` where the full softmax of these settings does not fit a machine."""
    predictions, windows = 1, 1
    matches_positives = settings.acting().get("lambda_cm", 0.0) > 0
    if settings.whole_sequences:
        predictions, windows = settings.max_history, settings.counterfactual_positions
    num_matched = settings.batch_size * (predictions + windows * settings.num_positives * matches_positives)
    if settings.sampler == "full" and num_matched * num_items > _MOST_LOGITS:
        raise InputError(
            f"--sampler=full with {num_matched:,} histories per step and {num_items:,} items makes"
            f" {num_matched * num_items:,} logits (at most {_MOST_LOGITS:,}): sample with"
            f" --sampler=uniform, or take smaller batches than --batch_size={settings.batch_size}."
        )
