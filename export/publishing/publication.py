"""What goes into a publication, what comes out, and the fingerprint that ties it together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.index.index_options import IndexOptions
from export.store.layout import tower_directory
from export.store.runtime import tf
from export.towers.served_tower import HistoryScorer, TowerLayer, variables_of
from export.towers.user_tower import ServedContext


@dataclass(frozen=True)
class Model:
    """What is published: the pieces of a trained model, free of its class.

    Attributes:
      item_embeddings: float32 [V + 1, d_in], what the tower reads; row 0 is padding and zero.
      user_tower: see `export_user_tower`.
      item_vectors: float32 [V, d], what is searched; row r belongs to `item_ids[r]`.
      item_ids: V ids, most popular first.
      max_history: how many items the tower reads.
      item_names: V names for people, or None.
      similarity: "dot", or "cosine" where user and item vectors have length one: items that are added
        later are then brought to it.
      history_scores: see `export_user_tower`; of a model that learned returns.
      context: see `export_user_tower`; of a model that reads features of users, requests or events.
    """

    item_embeddings: np.ndarray
    user_tower: TowerLayer
    item_vectors: np.ndarray
    item_ids: Sequence[str]
    max_history: int
    item_names: Sequence[str] | None = None
    similarity: str = "dot"
    history_scores: HistoryScorer | None = None
    context: ServedContext | None = None


@dataclass(frozen=True)
class Publication:
    """What was done, or would be done by a dry run.

    Attributes:
      number: the tower's version number.
      fingerprint: what the tower answers as `version`, and the name of its index.
      action: "published", "updated" or "rebuilt" (its index), "unchanged" (the latest version is that
        already) or "rolled back".
      index: the content of `index.json`, or None in a dry run that would build it.
      index_reused: an index of this fingerprint was there.
      removed_towers: their numbers.
      removed_indexes: their fingerprints.
      added: how many items of an update the index did not have; None where no update was carried out.
    """

    number: int
    fingerprint: str
    action: str
    index: dict[str, Any] | None = None
    index_reused: bool = False
    removed_towers: list[int] = field(default_factory=list)
    removed_indexes: list[str] = field(default_factory=list)
    added: int | None = None

    def outcome(self, bundle: Path, *, dry_run: bool, unchanged: str) -> str:
        """The lines to print at the end: what is removed, then where the version lies.

        `unchanged` says why the latest version is this one already, where it is.
        """
        removes = "would remove" if dry_run else "removed"
        lines = [f"{removes} version {number}" for number in self.removed_towers]
        lines += [f"{removes} index {name}" for name in self.removed_indexes]
        place = tower_directory(bundle, self.number)
        if self.action == "unchanged":
            return "\n".join([*lines, f"unchanged: {place} {unchanged}"])
        doing = f"would be {self.action}" if dry_run else self.action
        return "\n".join([*lines, f"{doing}: {place}, fingerprint {self.fingerprint}"])


def fingerprint_of(model: Model, options: IndexOptions) -> str:
    """Hashes all that decides an answer: tower variables, vectors, ids, names, and how they are searched.

    Without names, and for the inner product, it is what it was before these were part of it.

    Returns:
      16 hexadecimal digits.
    """
    # A layer makes its variables when it is first called.
    mask = tf.ones([1, 1], tf.bool)
    read = [] if model.context is None else [model.context.reader({}, mask)[0]]
    model.user_tower(tf.constant(model.item_embeddings[None, 1:2], tf.float32), mask, *read)
    digest = hashlib.sha256()
    layers = (model.user_tower, model.history_scores)
    variables = [np.asarray(variable) for layer in layers for variable in variables_of(layer)]
    for array in [*variables, model.item_embeddings, model.item_vectors]:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update("\n".join(model.item_ids).encode())
    digest.update(f"\n{model.max_history} {options}".encode())
    if options.parts:
        digest.update(f"\n{options.parts} parts".encode())
    if model.item_names is not None:
        digest.update(json.dumps(list(model.item_names)).encode())
    if model.similarity != "dot":
        digest.update(f"\n{model.similarity}".encode())
    if model.context is not None:
        digest.update(f"\n{model.context.reader.fingerprint}".encode())
    return digest.hexdigest()[:16]
