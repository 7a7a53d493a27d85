"""Result records: every figure of a run with its protocol, so that it can be checked and compared."""

import dataclasses
from collections.abc import Mapping
from importlib import metadata

from causerec_tf import flagfiles
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.splits.protocols import words
from causerec_tf.errors import InputError
from causerec_tf.measurement import Measured
from causerec_tf.model import CauseRec
from causerec_tf.progress import Progress, examples_per_second
from causerec_tf.settings import WITHOUT_SEEN, Settings

# Where a run lies and where its data lay is no part of what was measured.
_PLACES = ("run", "dataset")
_PACKAGES = ("causerec_tf", "tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")


def run_record(
    settings: Settings,
    dataset: Dataset,
    progress: Progress,
    test: Mapping[bool, Measured] | None,
    *,
    command: str,
    distribution: dict | None = None,
    model: CauseRec | None = None,
) -> dict:
    """The record of a finished run, ready for JSON.

    Args:
      settings: of the run.
      dataset: it was trained on.
      progress: what the epochs gave.
      test: what the test users gave, who are looked at once, by `measurement.measure`; None for a trial whose
        settings are still being chosen, and that must not look at them.
      command: that made the run.
      distribution: `Distribution.about`, of the process that ended the run; none for one device.
      model: one that was composed by hand; None for one that the settings make.
    """
    best, chosen_by = progress.best, settings.choose_by
    assert best is not None
    if test is None:
        validated = dataset.num_evaluation_users("validation") if best.validation else 0
        users = {"validation_users": validated} if validated else {}
    else:
        users = users_measured("test", test)
    start = {"warm_start": progress.warm_start} if progress.warm_start else {}
    return (
        head(settings, dataset, exclude_seen=False, users=users)
        | ({"system": system_of(settings, model), "parts": model.describe().splitlines()} if model else {})
        | start
        | ({"distribution": distribution} if distribution else {})
        | {
            "settings": {
                name: value for name, value in dataclasses.asdict(settings).items() if name not in _PLACES
            },
            "epochs": progress.epoch,
            "best_epoch": best.number,
            "train_examples_per_second": round(examples_per_second(progress.epochs), 1),
        }
        | ({"validation": best.validation} if best.validation else {})
        | (what_was_measured("test", test) if test else {})
        | {
            "by_epoch": [
                {"losses": epoch.losses}
                | {f"validation_{name}": epoch.validation[name] for name in (chosen_by,) if epoch.validation}
                for epoch in progress.epochs
            ],
            "command": command,
            "versions": versions(),
        }
    )


def users_measured(split: str, measured: Mapping[bool, Measured]) -> dict[str, int]:
    """How many users a record's figures are of, for `head`; see `what_was_measured`."""
    return {f"{key}_users": one.num_users for key, one in _by_key(split, measured).items()}


def what_was_measured(split: str, measured: Mapping[bool, Measured]) -> dict:
    """The figures of a record.

    Args:
      split: what they are called: `test`, `validation` or `targets`.
      measured: by `measurement.measure`. The first policy is called by the split alone.

    Returns:
      The model's under `<split>`, and under `<split>_without_seen` where seen items are left out beside that;
      `pop`, of the first policy; `baselines`, name -> the same keys as the model's; and if there are
      `groups`, the same keys -> group.
    """
    by_key = _by_key(split, measured)
    names = dict.fromkeys(name for one in by_key.values() for name in one.baselines)
    baselines = {
        name: {key: one.baselines[name] for key, one in by_key.items() if name in one.baselines}
        for name in names
    }
    groups = {key: one.groups for key, one in by_key.items() if one.groups}
    return (
        {key: one.model for key, one in by_key.items()}
        | {"pop": by_key[split].pop, "baselines": baselines}
        | ({"groups": groups} if groups else {})
    )


def _by_key(split: str, measured: Mapping[bool, Measured]) -> dict[str, Measured]:
    return dict(zip((split, f"{split}{WITHOUT_SEEN}"), measured.values(), strict=False))


def system_of(settings: Settings, model: CauseRec | None) -> str:
    """The name of a run's system: that of its settings, or `composed` of a model composed by hand."""
    return settings.system if model is None else "composed"


def settings_of(record: dict) -> Settings:
    """The settings that a record was made with; one that its version did not have has its default.

    Raises:
      InputError: the record does not say them, or says one that is not a setting of this version.
    """
    if "settings" not in record:
        raise InputError("it has no settings: an earlier version made it.")
    return flagfiles.from_record(record["settings"])


def head(settings: Settings, dataset: Dataset, *, exclude_seen: bool, users: dict[str, int]) -> dict:
    """What a record says first: which system, which data, which protocol.

    `users` are `test_users` or `validation_users` -> how many were measured.
    """
    variant = {"variant": settings.variant} if settings.variant else {}
    return {
        "system": settings.system,
        **variant,
        "recipe": settings.recipe_label,
        "seed": settings.seed,
        "split_seed": dataset.info["split_seed"],
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "protocol": dataset.protocol
        | words(dataset.protocol)
        | {
            "candidates": "the whole catalogue",
            "max_history": settings.max_history,
            "exclude_seen": exclude_seen,
            "epoch_chosen_by": "a run before"
            if settings.stop_after
            else f"validation {settings.choose_by}".replace(WITHOUT_SEEN, ", seen items left out"),
        }
        | users,
    }


def versions() -> dict[str, str]:
    """The versions that made the figures."""
    return {package: metadata.version(package) for package in _PACKAGES}
