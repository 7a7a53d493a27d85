"""Loading trained runs, also several to be laid side by side: their names, and that they belong together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from causerec_tf.errors import InputError

if TYPE_CHECKING:
    from causerec_tf.runs import TrainedRun


def names_of(runs: Sequence[str]) -> list[str]:
    """What the runs are called: their directories' names, or their whole paths where those are alike.

    Raises:
      InputError: a run is given twice.
    """
    names = [Path(run).name for run in runs]
    if len(set(names)) < len(names):
        names = list(runs)
    if len(set(names)) < len(names):
        raise InputError(f"--runs={','.join(runs)} names a run twice: give each once.")
    return names


def load_one(run: str, dataset: str | None = None) -> "TrainedRun":
    """Loads a run, with its dataset where it is now, if it was moved; says so if it is not finished."""
    from causerec_tf.runs import load_trained

    trained = load_trained(run, dataset)
    if not trained.is_finished:
        print(f"note: {run} is not finished; this is its best epoch so far")
    return trained


def load(runs: Sequence[str], dataset: str | None = None) -> dict[str, "TrainedRun"]:
    """Loads runs as `load_one` does: name -> run.

    Raises:
      InputError: a run is given twice, cannot be loaded, or was trained on another dataset than the first.
    """
    names = names_of(runs)
    trained = {name: load_one(run, dataset) for name, run in zip(names, runs, strict=True)}
    first = trained[names[0]]
    for name, one in trained.items():
        if one.dataset.fingerprint != first.dataset.fingerprint:
            raise InputError(
                f"{name} was trained on {one.dataset.directory} ({one.dataset.fingerprint[:16]}), {names[0]}"
                f" on {first.dataset.directory} ({first.dataset.fingerprint[:16]}): give runs that were"
                " trained on the same dataset."
            )
    return trained
