"""Settings like those of a chosen run, to train on all that may be known, without choosing again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causerec_tf import files, flagfiles
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.splits.protocols import TRAIN_ON, USERS
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.runs import RunDirectory
from causerec_tf.settings import Settings


def settings_like(
    chosen: str | Path, dataset: Dataset, given: Mapping[str, Any], model: CauseRec | None = None
) -> Settings:
    """The settings of a finished run, without validation and ending after its best epoch.

    The learning rate follows the chosen run's schedule, which is made for its `epochs`. Where the dataset has
    test users, everything before their targets is trained on; otherwise everything.

    Args:
      chosen: directory of the run.
      dataset: to train on.
      given: settings that replace those of the run, `dataset` and `run` among them.
      model: of a run whose model was composed by hand: the same parts again.

    Raises:
      InputError: no finished run is there, it is of another model, or the dataset is split by users, of whom
        those that are measured cannot be trained on.
    """
    run = RunDirectory(Path(chosen), flag="--like")
    settings = flagfiles.read(run.flags)
    run.check_parts(model)
    if not run.metrics.exists():
        raise InputError(f"{run.path} is not finished: its best epoch may be still to come. Finish it first.")
    if dataset.protocol["name"] == USERS:
        raise InputError(
            f"{dataset.directory} is split by users, and {run.path} was trained on all that it trains on. To"
            " retrain a chosen run, prepare the log with --protocol=none, which trains on everything, or with"
            " a protocol that tests what comes later."
        )
    train_on = TRAIN_ON[1] if dataset.measures("test") else TRAIN_ON[0]
    best_epoch = files.read_json(run.metrics)["best_epoch"]
    return dataclasses.replace(settings, **{"train_on": train_on, "stop_after": best_epoch} | dict(given))
