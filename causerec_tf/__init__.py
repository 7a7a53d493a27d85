"""Candidate retrieval from behaviour logs: CauseRec and its peers in TensorFlow.

    import causerec_tf as cr
    dataset = cr.prepare(frame, "datasets/shop", user="customer", item="sku", time="at")
    run = cr.train(dataset, "runs/shop", recipe="recommended")
    run.recommend({"u1": ["sku 7", "sku 12"]}, k=10)

Importing this package arranges Keras 2 (`tf_keras`), which tensorflow-recommenders needs. That can only
be done before TensorFlow has handed out its Keras, so import `causerec_tf` before you touch `tf.keras`.

What lies here, by subject:

    data          schema, data
    settings      settings, flagfiles, recipes, feature_recipes
    the model     model, towers, features, counterfactual, every_position
    objective     matching, cosine_contrastive, negatives, returns, losses, shares
    training      train_run, training, optimizers, distributed, progress, progress_bar, retraining
    run on disk   runs, checkpoints
    warm start    warm_start, warm_features, new_items
    measuring     measurement, evaluation, retrieval, metrics, groups, baselines, comparison, records, studies
    using a run   interface, trained_run, model_card, raw_values
    everywhere    errors, files
"""

import importlib
import os
import sys
from typing import Any


def _arrange_keras_2() -> None:
    """Selects Keras 2, or says why it is too late.

    Raises:
      ImportError: `tf.keras` is already Keras 3 in this process, or the environment asks for Keras 3.
    """
    asked = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if asked.lower() not in ("1", "true"):
        raise ImportError(
            f"causerec_tf needs Keras 2, but TF_USE_LEGACY_KERAS={asked!r} in the environment asks for"
            " Keras 3. Unset it, or set it to 1."
        )
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            "causerec_tf needs Keras 2, but tf.keras is already Keras 3 in this process. Import"
            " causerec_tf before TensorFlow, or set TF_USE_LEGACY_KERAS=1 before Python starts."
        )


_arrange_keras_2()
# TensorFlow reads this when it is first imported: its start-up notes (a missing GPU among them) are not news
# to a user, and what fails is raised.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Imported when they are first used: the scripts' flags should not wait for TensorFlow.
_PUBLIC = {
    "interface": ("Run", "load_run", "prepare", "read_recipe", "train"),
    "data.sequences": ("Dataset", "open_dataset"),
    "model": ("CauseRec",),
    "recipes": ("compose",),
    "settings": ("Settings",),
    "towers.base": ("KerasTower", "UserTower"),
    "towers.item": ("ItemTower",),
    "towers.unit_length": ("UnitLengthTower",),
    "towers.interest_attention": ("InterestAttention", "InterestTower"),
    "towers.pooling": ("MeanPoolingTower",),
    "towers.youtube_dnn": ("YouTubeDNNTower",),
    "towers.gru": ("GRU4RecTower",),
    "towers.self_attention": ("SASRecTower",),
    "towers.multi_interest": ("SelfAttentiveMultiInterestTower",),
    "towers.capsules": ("ComiRecDRTower", "MINDTower"),
    "matching": ("SampledMatching", "SampledSoftmax", "label_aware_attention", "nearest_interest"),
    "cosine_contrastive": ("CosineContrastive",),
    "negatives": ("FullCatalogue", "InBatchSampler", "LogUniformSampler", "MixedSampler", "UniformSampler"),
    "counterfactual.methods": ("CounterfactualHierarchy", "CounterfactualInterests", "CounterfactualItems"),
    "losses": (
        "LossInputs",
        "WeightedLoss",
        "contrast_with_items",
        "contrast_with_observation",
        "match_positives",
    ),
    "baselines.baseline": ("Baseline",),
    "errors": ("InputError",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
