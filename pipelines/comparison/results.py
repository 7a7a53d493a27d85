"""The results of a comparison on disk: a record for each run, and the figures of its test users.

<output>/<run>.json            the record: written last, and so the sign that the run is done
<output>/per_user/<run>.npz    metric -> float32 [test users], in the dataset's order
<output>/per_user/<run>_without_seen.npz    the same without seen items, of those who have another target
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causerec_tf import comparison, files, records, runs
from causerec_tf.data.sequences import Dataset
from causerec_tf.errors import InputError
from pipelines.comparison.plan import MEASURES, TEST_WITHOUT_SEEN, VALIDATION, Plan, PlannedRun

_REMEDY = (
    "Undo the change of the plan, or of the dataset; or choose another --output and --runs; or remove what is"
    " not wanted any more, a run's record and its directory. In a comparison, variant = ... can name what"
    " differs."
)


@dataclass(frozen=True)
class Result:
    """What a run gave: its record, and metric -> float32 [test users measured].

    `per_user` is None if validation users are compared.
    """

    record: dict
    per_user: dict[str, np.ndarray] | None


def survey(output: Path, plan: Plan, dataset: Dataset, *, directories: bool = True) -> dict[str, Result]:
    """Looks at what is there of the runs of a plan, before any is started.

    `directories`: also at those of runs without a result, in which these would be trained.

    Returns:
      Name -> result of the runs that are done.

    Raises:
      InputError: records or directories are there with other settings or of another dataset, all of which it
        names; a record cannot be read or lacks a metric, or a directory holds something else than a run.
    """
    found, departures = {}, []
    for run in plan.runs:
        path = _record_path(output, run)
        differs = _departure(files.read_json(path), path, run, dataset) if path.exists() else ""
        if differs:
            departures.append(f"{path}: {differs}")
        elif (result := load(output, run, dataset, plan.measure)) is not None:
            _check_has_metrics(result.record, path, run, plan)
            found[run.name] = result
            continue
        directory = runs.RunDirectory(Path(run.settings.run), flag="--runs")
        if directories and (differs := directory.departure(run.settings, dataset)):
            departures.append(f"{directory.path}: {differs}")
    if departures:
        raise InputError(
            "the plan asks for other settings or another dataset than what is there was made with:\n  "
            + "\n  ".join(departures)
            + f"\nNo run was started in their place. {_REMEDY}"
        )
    return found


def load(output: Path, run: PlannedRun, dataset: Dataset, measure: str) -> Result | None:
    """Loads the result of a run; None if the run is not done yet.

    Raises:
      InputError: what is there is of other settings or of another dataset, or cannot be read.
    """
    path = _record_path(output, run)
    if not path.exists():
        return None
    record = files.read_json(path)
    _check_is_of(record, path, run, dataset)
    if measure == VALIDATION:
        return Result(record, None)
    users = _users_path(output, run, measure)
    if measure not in record or not users.exists():
        return None
    return Result(record, _read_users(users, record, measure))


def store(output: Path, run: PlannedRun, dataset: Dataset, plan: Plan) -> Result:
    """Copies the result of a run that pipelines/train.py has finished from its directory.

    Raises:
      InputError: the run's directory does not hold what was asked for.
    """
    directory = runs.RunDirectory(Path(run.settings.run))
    record = files.read_json(directory.metrics)
    _check_is_of(record, directory.metrics, run, dataset)
    _check_has_metrics(record, directory.metrics, run, plan)
    values = None
    if (measure := plan.measure) != VALIDATION:
        without_seen = measure == TEST_WITHOUT_SEEN
        of_users = directory.test_users_without_seen if without_seen else directory.test_users
        values = _read_users(of_users, record, measure)
        files.write_arrays(_users_path(output, run, measure), values)
    files.write_json(_record_path(output, run), record)
    return Result(record, values)


def _record_path(output: Path, run: PlannedRun) -> Path:
    return output / f"{run.name}.json"


def _users_path(output: Path, run: PlannedRun, measure: str) -> Path:
    return output / "per_user" / f"{run.name}{measure.removeprefix('test')}.npz"


def _check_has_metrics(record: dict, path: Path, run: PlannedRun, plan: Plan) -> None:
    """Checks that a record has the metrics of a plan; those of earlier versions have fewer."""
    has = record.get(plan.measure, {})
    if missing := [metric for metric in dict.fromkeys((*plan.metrics, *plan.tested)) if metric not in has]:
        raise InputError(
            f"{path}, {MEASURES[plan.measure]}: there is no {', '.join(missing)}. Choose metrics and tested"
            f" from what is there: {', '.join(has) or 'nothing'}. Or, if an earlier version made the record,"
            f" remove it and {Path(run.settings.run) / 'metrics.json'}, and run the plan again: the run is"
            " measured again, not trained again."
        )


def _check_is_of(record: dict, path: Path, run: PlannedRun, dataset: Dataset) -> None:
    """Checks that a record is of the run that the plan asks for."""
    if differs := _departure(record, path, run, dataset):
        raise InputError(f"{path} was made otherwise than the plan asks ({differs}). {_REMEDY}")


def _departure(record: dict, path: Path, run: PlannedRun, dataset: Dataset) -> str:
    """What a record has otherwise than the plan asks for, in words; empty if nothing."""
    try:
        found = records.settings_of(record)
    except InputError as error:
        raise InputError(
            f"{path} cannot be compared: {error} Remove it and run the plan again; a run whose directory is"
            " still there is measured again, not trained again."
        ) from error
    comparison.check_protocols({dataset.name: dataset.protocol, str(path): record.get("protocol", {})})
    # Systems that are compared have the same budget, so more epochs are another run here.
    return runs.difference(found, run.settings, also=("epochs", "patience")) or runs.difference_of_datasets(
        record["dataset"]["fingerprint"], dataset
    )


def _read_users(path: Path, record: dict, measure: str) -> dict[str, np.ndarray]:
    """Reads the figures of the test users and checks that the record's are their means."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read: {error}. Remove it and run the plan again: the run is measured again,"
            " not trained again."
        ) from error
    # Figures of all lists together, such as coverage, have no value a user.
    belongs = set(values) <= set(record[measure]) and all(
        one.shape == (record["protocol"][f"{measure}_users"],)
        and abs(one.mean() - record[measure][name]) < 1e-5
        for name, one in values.items()
    )
    if not belongs:
        raise InputError(
            f"{path} does not belong to the record beside it: the record's figures are not the means of it."
            " Remove both and run the plan again."
        )
    return values
