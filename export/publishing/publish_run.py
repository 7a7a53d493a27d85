"""Publishes a trained run: here alone what is exported meets the library that trained it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.index.history_shape import HistoryShape
from export.index.index_options import IndexOptions
from export.publishing.publication import Model, Publication
from export.publishing.publish import publish
from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT
from export.store.layout import MOST_WARM_UP_HISTORIES, WARM_UP_HISTORIES, check_place
from export.tower_columns import Given, TowerColumns
from export.towers.requests import at_places
from export.towers.user_tower import ServedContext

if TYPE_CHECKING:
    from causerec_tf.data.evaluation_context import Context
    from causerec_tf.data.sequences import Dataset
    from causerec_tf.model import CauseRec
    from causerec_tf.runs import TrainedRun
    from causerec_tf.trained_run import Run


def publish_run(
    run: "Run | TrainedRun | str | os.PathLike",
    directory: str | os.PathLike,
    *,
    target_recall: float = IndexOptions.target_recall,
    index_method: str = IndexOptions.method,
    index_memory: str = IndexOptions.memory,
    index_parts: int = IndexOptions.parts,
    keep: int = VERSIONS_KEPT,
    warm_up_requests: int = WARM_UP_HISTORIES,
    evaluations: Sequence[str | os.PathLike] = (),
    dry_run: bool = False,
) -> Publication:
    """Publishes a run as the next version of a bundle, unless the latest version is this very model.

    The index is tuned and measured on the histories of the validation users; where nobody is measured (the
    protocol `none`), on those of training users. An item that training does not have is in the
    bundle only where items have features.

    Args:
      run: what `causerec_tf.train` or `causerec_tf.load_run` gives, or the directory of a run.
      directory: of the bundle, made when it does not exist.
      target_recall: this one, `index_method` and `index_memory` are those of `IndexOptions`.
      index_method: see there.
      index_memory: see there.
      index_parts: see there.
      keep: how many versions stay, the new one included.
      warm_up_requests: real histories that a model server replays when it starts; other than 0 they need
        tensorflow-serving-api.
      evaluations: files of records of this run (`pipelines/evaluate.py --output`): their figures are
        written into the model card, beside those of the run.
      dry_run: tells what would be done, and writes nothing.

    Raises:
      BundleError: as of `publish`.
      causerec_tf.InputError: no run is there, or it cannot be loaded, or an evaluation is of another run.
    """
    from causerec_tf import evaluation, runs
    from causerec_tf.data.holdout import asking_users
    from causerec_tf.model_card import model_card

    bundle = Path(directory)
    check_place(bundle)
    if not 0 <= warm_up_requests <= MOST_WARM_UP_HISTORIES:
        raise BundleError(
            f"warm_up_requests is {warm_up_requests}; wanted 0 to {MOST_WARM_UP_HISTORIES}, which TensorFlow"
            " Serving takes."
        )
    records = [_read_record(Path(path)) for path in evaluations]
    trained = runs.load_trained(Path(run)) if isinstance(run, str | os.PathLike) else run
    model, dataset = trained.model, trained.dataset
    item_ids, item_names = dataset.item_ids(), dataset.item_names()
    # Nothing trained the vectors of other items: a bundle that had them would answer them by chance. But
    # where items have features all of them are known by these.
    rows = np.arange(len(item_ids)) if model.trained_items is None else model.trained_items - 1
    history, beside = asking_users(dataset, model.max_history)
    number_of = np.zeros(len(item_ids) + 1, np.int64)  # in the bundle
    number_of[rows + 1] = np.arange(1, len(rows) + 1)
    numbers = number_of[history]
    asking = HistoryShape()
    asking.add([row[row > 0] - 1 for row in numbers], len(rows))
    context = _served_context(model, dataset, numbers[:warm_up_requests], beside)
    return publish(
        bundle,
        Model(
            item_embeddings=model.item_embeddings()[np.append(0, rows + 1)],
            user_tower=model.user_tower,
            item_vectors=model.item_vectors()[rows],
            item_ids=[item_ids[row] for row in rows],
            max_history=model.max_history,
            item_names=[item_names[row] for row in rows] if item_names != item_ids else None,
            similarity="cosine" if model.user_tower.has_unit_length else "dot",
            history_scores=model.scores_of_history,
            context=context,
        ),
        queries=evaluation.user_vectors(model, history, beside),
        warm_up_histories=[row[row > 0].tolist() for row in numbers[:warm_up_requests]],
        options=IndexOptions(
            target_recall=target_recall, method=index_method, memory=index_memory, parts=index_parts
        ),
        keep=keep,
        card=model_card(trained, records) | {"histories": asking.describe()},
        dry_run=dry_run,
    )


def _served_context(
    model: "CauseRec", dataset: "Dataset", numbers_BL: np.ndarray, context: "Context"
) -> ServedContext | None:
    """What the tower reads beside ids, with what is known beside the warm-up histories; None: nothing.

    The histories are numbers in the bundle, 0 where it does not have an item; what stands beside such an item
    is left out with it.
    """
    from causerec_tf.raw_values import ContextReader
    from causerec_tf.schema import OWNERS
    from causerec_tf.towers.context_tower import ContextTower

    if not isinstance(model.user_tower, ContextTower):
        return None
    read = {column.key for column in model.user_tower.features.columns}
    fitted = [one for owner in OWNERS for one in dataset.fitted_columns(owner) if one.column.key in read]
    reader = ContextReader(fitted)
    columns = TowerColumns.described({"columns": reader.columns}, "the schema's")
    count = len(numbers_BL)
    raws = reader.raw_of({key: values[:count] for key, values in context.items()})
    given: list[Given] = []
    stored = {key: np.array(context[key][:count]) for key in context if key in read}
    stored |= {key: np.array(context[key][:count]) for key in ("time", "request_time") if key in context}
    for one in fitted:
        # Hashed words cannot be given again, and what a schema puts where a whole request is missing no
        # history shows.
        is_replaced = one.column.owner == "request" and one.column.missing is not None
        if one.column.kind == "text" or is_replaced:
            stored.pop(one.column.key, None)
    for row, (raw, numbers) in enumerate(zip(raws, numbers_BL, strict=True)):
        kept = np.flatnonzero(numbers).tolist()
        named = {
            column.input: raw[column.key] for column in columns.columns if raw.get(column.key) is not None
        }
        given.append(at_places(columns, named, kept))
        for key, values in stored.items():
            if values.ndim > 1 and (key == "time" or key.startswith("event/")):
                moved = values[row, kept]
                values[row] = np.nan if values.dtype == np.float32 else 0
                values[row, : len(kept)] = moved
    return ServedContext(reader, given, stored)


def _read_record(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} cannot be read ({error}); wanted a record that pipelines/evaluate.py --output wrote."
        ) from error
