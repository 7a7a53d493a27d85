"""What a run tells of itself to whoever serves it: its data, its settings, its figures beside baselines."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from causerec_tf import records
from causerec_tf.data.splits import protocols
from causerec_tf.errors import InputError
from causerec_tf.runs import RunDirectory
from causerec_tf.settings import WITHOUT_SEEN

if TYPE_CHECKING:
    from causerec_tf.runs import TrainedRun
    from causerec_tf.trained_run import Run

_SPLITS = ("targets", "test", "validation")
_PLACES = ("run", "dataset")


def model_card(trained: "TrainedRun | Run", evaluations: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Describes a run, ready for JSON.

    Args:
      trained: the run; what its `metrics.json` says is part of the card.
      evaluations: records of `pipelines/evaluate.py --output`, with figures that the run does not have.

    Returns:
      `system`, `recipe`, `seed`, `dataset` (name, fingerprint, counts), `protocol`, `features` (what the
      tower reads of an event), `settings` (those that act), `is_finished`, `epochs`, `best_epoch`, `figures`
      and `versions`. A figure has `protocol`, `split`, `seen_items` ("kept" or "left out"), `users`, `model`
      (metric -> value) and `baselines` (name -> the same).

    Raises:
      InputError: an evaluation is of another run, dataset or seed.
    """
    settings, dataset = trained.settings, trained.dataset
    head = records.head(settings, dataset, exclude_seen=False, users={})
    head["protocol"] = {"name": protocols.label(dataset.protocol)} | {
        name: value for name, value in head["protocol"].items() if name != "exclude_seen"
    }
    head["dataset"] |= {"items": dataset.num_items, "counts": dataset.info["counts"]}
    run = RunDirectory(trained.directory) if trained.directory is not None else None
    parts = {}
    if run is not None and run.parts.exists():
        lines = run.parts.read_text(encoding="utf-8").splitlines()
        parts = {"system": "composed", "parts": lines}
    record = {}
    if run is not None and run.metrics.exists():
        record = json.loads(run.metrics.read_text(encoding="utf-8"))
    for number, one in enumerate(evaluations):
        _check_same(number, one, head | parts)
    return (
        head
        | parts
        | {
            "features": ["item_id"],
            "settings": {name: one for name, one in settings.acting().items() if name not in _PLACES},
            "is_finished": trained.is_finished,
            **{name: record[name] for name in ("epochs", "best_epoch", "versions") if name in record},
            "figures": [figure for one in (record, *evaluations) for figure in _figures(one, head)],
        }
    )


def _figures(record: Mapping[str, Any], head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of a result record, each with its protocol."""
    found = []
    measured = next((split for split in _SPLITS if split in record), "")
    for split in _SPLITS:
        for key in (split, f"{split}{WITHOUT_SEEN}"):
            if key not in record:
                continue
            left_out = key != split or record["protocol"].get("exclude_seen", False)
            users = record["protocol"].get(f"{key}_users")
            baselines = {
                name: of_key[key] for name, of_key in record.get("baselines", {}).items() if key in of_key
            }
            if key == measured and "pop" in record:
                baselines = {"pop": record["pop"]} | baselines
            found.append(
                {
                    "protocol": head["protocol"]["name"],
                    "split": split,
                    "seen_items": "left out" if left_out else "kept",
                    "users": users,
                    "model": record[key],
                    "baselines": baselines,
                }
            )
    return found


def _check_same(number: int, record: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    if not isinstance(record, Mapping):
        raise InputError(f"evaluation {number} is no record of pipelines/evaluate.py --output.")
    for name in ("seed", "dataset"):
        got, wanted = record.get(name), head[name]
        if name == "dataset":
            got, wanted = (got or {}).get("fingerprint"), wanted["fingerprint"]
        if got != wanted:
            raise InputError(
                f"evaluation {number} has {name} {got}, the run has {wanted}: wanted a record that"
                " pipelines/evaluate.py --output wrote of this run."
            )
