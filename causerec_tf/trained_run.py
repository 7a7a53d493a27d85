"""A trained run, to be evaluated, asked and published. Frames come out; ids stay the user's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from causerec_tf import evaluation, measurement, recipes, runs
from causerec_tf.baselines.baseline import Baseline
from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.logs import frames
from causerec_tf.data.ragged import ItemLists, row_splits
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError
from causerec_tf.metrics import CUTOFFS
from causerec_tf.model import CauseRec

_NO_ITEMS = np.zeros(0, np.int64)
# User id -> item ids, oldest first; or the lists alone; or a frame of the columns `user_id` and `history`.
Histories = Mapping[Any, Sequence[Any]] | Sequence[Sequence[Any]] | Any


def load_run(
    directory: str | Path, dataset: Dataset | str | Path | None = None, *, model: CauseRec | None = None
) -> "Run":
    """Loads the best epoch of a run.

    Args:
      directory: of the run.
      dataset: of the run; None: where it was trained from.
      model: of a run that was composed by hand: the same parts again.

    Raises:
      InputError: no run is there, or it is damaged, or of another dataset or model.
    """
    place = dataset.directory if isinstance(dataset, Dataset) else dataset
    return Run(runs.load_trained(directory, place, model=model), Path(directory))


class Run:
    """A trained run: it is evaluated, asked and published.

    Attributes:
      directory: of the run.
      model: with the towers of its best epoch.
      settings: it was trained with.
      dataset: it was trained on.
      is_finished: whether its training came to its end.
    """

    def __init__(self, trained: runs.TrainedRun, directory: Path):
        """Wraps what was loaded."""
        self.directory = directory
        self.model = trained.model
        self.settings = trained.settings
        self.dataset = trained.dataset
        self.is_finished = trained.is_finished
        self._item_ids = np.array(self.dataset.item_ids(), dtype=object)
        self._index = {item_id: index for index, item_id in enumerate(self._item_ids, start=1)}
        names = self.dataset.item_names()
        self._names = np.array(names, dtype=object) if names != list(self._item_ids) else None

    def evaluate(
        self,
        split: str = "test",
        *,
        exclude_seen: bool | None = False,
        cutoffs: Sequence[int] = CUTOFFS,
        baselines: Sequence[str] | Mapping[str, Baseline] = ("pop",),
    ) -> pl.DataFrame:
        """Measures the model, and baselines beside it.

        Args:
          split: `test` or `validation`.
          exclude_seen: leave out what is in a user's history, of lists and targets; None: both, in one pass.
          cutoffs: of every metric, such as 10.
          baselines: names of `recipes.BASELINES`, such as `own_past`, or name -> a baseline of one's own.

        Returns:
          A row for each of them: `system`, `split`, `seen_items`, `users`, and the metrics.

        Raises:
          InputError: there is nobody to measure, or a baseline does not go with the dataset.
        """
        policies = evaluation.POLICIES if exclude_seen is None else (exclude_seen,)
        max_history = self.model.max_history
        measured = measurement.measure(
            self.model,
            measurement.users_of(self.dataset, split, max_history, exclude_seen=bool(exclude_seen)),
            TrainingEvents(self.dataset),
            policies=policies,
            cutoffs=cutoffs,
            baselines=baselines if isinstance(baselines, Mapping) else recipes.baselines(baselines),
        )
        system = self.settings.system if not runs.RunDirectory(self.directory).parts.exists() else "composed"
        return pl.DataFrame(
            [
                {"system": name, "split": split, "seen_items": "left out" if left_out else "kept"}
                | {"users": one.num_users}
                | figures
                for left_out, one in measured.items()
                for name, figures in {system: one.model, **one.baselines}.items()
            ]
        )

    def recommend(self, histories: Histories, k: int = 10, *, exclude_seen: bool = True) -> pl.DataFrame:
        """The k best items of the catalogue for each history, by exact search.

        Args:
          histories: user id -> item ids, oldest first; or lists of item ids, numbered from 0; or a frame with
            the columns `user_id` and `history`. Ids are text or integers. Unknown items are ignored; a
            history without a known item gets the most popular ones.
          k: items a history.
          exclude_seen: leave out the items of the history.

        Returns:
          `user_id`, `rank` from 1, `item_id`, `name` where there are names, `score`.
        """
        user_ids, known = self._known(histories)
        users = EvaluationUsers(
            user_ids=np.array(user_ids, dtype=object),
            history=last_items(known, self.model.max_history),
            seen=known,
            targets=ItemLists(_NO_ITEMS, np.zeros(len(user_ids) + 1, np.int64)),
        )
        num_items = self.dataset.num_items
        k = min(k, num_items)
        best = evaluation.rank_users(self.model, users, k, exclude_seen=exclude_seen)
        popular = evaluation.rank_by_popularity(num_items, users, k, exclude_seen=exclude_seen)
        best = np.where(users.history[:, :1] > 0, best, popular)
        frame = self._item_frame(user_ids, best - 1, self._scores(users.history, best), "user_id")
        return frame.filter(pl.Series(best.ravel() > 0))

    def similar_items(self, item_ids: Sequence[Any], k: int = 10) -> pl.DataFrame:
        """The nearest items to each item, by the cosine of their vectors.

        Args:
          item_ids: known items.
          k: neighbours of each.

        Returns:
          `item_id`, `rank` from 1, `similar_item_id`, `name` where there are names, `score`.

        Raises:
          InputError: an item is unknown.
        """
        asked = [_text(item) for item in item_ids]
        if unknown := [item for item in asked if item not in self._index]:
            raise InputError(f"{unknown[0]!r} is not an item of {self.dataset.directory}.")
        vectors = self.model.item_vectors()
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        rows = np.array([self._index[item] - 1 for item in asked], np.int64)
        scores = vectors[rows] @ vectors.T
        scores[np.arange(len(rows)), rows] = -np.inf
        if self.model.trained_items is not None:
            scores[:, np.setdiff1d(np.arange(len(vectors)), self.model.trained_items - 1)] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(vectors) - 1)]
        frame = self._item_frame(asked, best, np.take_along_axis(scores, best, axis=1), "item_id")
        return frame.filter(pl.col("score") > -np.inf)

    def user_vectors(self, histories: Histories) -> pl.DataFrame:
        """The vectors of histories.

        Args:
          histories: as of `recommend`.

        Returns:
          `user_id` and `vector`; of a tower with several vectors a row for each, and `interest` from 0.
        """
        user_ids, known = self._known(histories)
        vectors = evaluation.user_vectors(self.model, last_items(known, self.model.max_history))
        if vectors.ndim == 2:
            return pl.DataFrame({"user_id": user_ids, "vector": vectors})
        count = vectors.shape[1]
        return pl.DataFrame(
            {
                "user_id": [user for user in user_ids for _ in range(count)],
                "interest": np.tile(np.arange(count), len(user_ids)),
                "vector": vectors.reshape(-1, vectors.shape[2]),
            }
        )

    def item_vectors(self) -> pl.DataFrame:
        """The vectors that users are matched with: `item_id`, `name` where there are names, `vector`."""
        columns: dict[str, Any] = {"item_id": self._item_ids.tolist()}
        if self._names is not None:
            columns["name"] = self._names.tolist()
        return pl.DataFrame(columns | {"vector": self.model.item_vectors()})

    def __repr__(self) -> str:
        state = "" if self.is_finished else ", not finished"
        return f"Run({self.directory}, {self.settings.system} on {self.dataset.name}{state})"

    def _known(self, histories: Histories) -> tuple[list[Any], ItemLists]:
        """The users, and the known items of each."""
        if frames.is_frame(histories):
            frame = frames.as_frame(histories)
            if missing := [name for name in ("user_id", "history") if name not in frame.columns]:
                raise InputError(f"histories have no column {missing[0]!r}, but {', '.join(frame.columns)}.")
            users, lists = frame["user_id"].to_list(), frame["history"].to_list()
        elif isinstance(histories, Mapping):
            users, lists = list(histories), list(histories.values())
        else:
            lists = list(histories)
            users = list(range(len(lists)))
        for one in lists:
            if isinstance(one, str) or not isinstance(one, Sequence | np.ndarray):
                raise InputError(f"a history is {one!r:.80}: wanted a list of item ids.")
        if len({type(user) for user in users}) > 1:  # a column has one type
            users = [_text(user) for user in users]
        index = self._index
        known = [
            np.array([index[text] for item in one if (text := _text(item)) in index], np.int32)
            for one in lists
        ]
        items = np.concatenate([_NO_ITEMS, *known]).astype(np.int32)
        return users, ItemLists(items, row_splits(np.array([len(one) for one in known], np.int64)))

    def _scores(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The score of each user's items, float32 [users, k]; NaN for a user of whom nothing is known."""
        vectors = evaluation.user_vectors(self.model, history)
        chosen = self.model.item_vectors()[items - 1]
        several = vectors[:, np.newaxis] if vectors.ndim == 2 else vectors
        scores = np.einsum("bid,bkd->bki", several, chosen).max(axis=2)
        if self.model.returns is not None:
            own_items, own_scores = (one.numpy() for one in self.model.history_scores(history, vectors))
            for scores_K, items_K, own_L, scores_L in zip(scores, items, own_items, own_scores, strict=True):
                of_own = dict(zip(own_L.tolist(), scores_L.tolist(), strict=True))
                scores_K[:] = [of_own.get(item, score) for item, score in zip(items_K, scores_K, strict=True)]
        return np.where(history[:, :1] > 0, scores, np.nan)

    def _item_frame(self, keys: list[Any], rows: np.ndarray, scores: np.ndarray, key: str) -> pl.DataFrame:
        found = rows.ravel()
        columns: dict[str, Any] = {
            key: [one for one in keys for _ in range(rows.shape[1])],
            "rank": np.tile(np.arange(1, rows.shape[1] + 1), len(keys)),
            "item_id" if key == "user_id" else "similar_item_id": self._item_ids[found].tolist(),
        }
        if self._names is not None:
            columns["name"] = self._names[found].tolist()
        return pl.DataFrame(columns | {"score": scores.ravel().astype(np.float32)})


def _text(item: Any) -> str:
    """An id as the datasets have it.

    Raises:
      InputError: it is neither text nor an integer.
    """
    if isinstance(item, str):
        return str(item)
    if isinstance(item, int | np.integer) and not isinstance(item, bool):
        return str(int(item))
    raise InputError(f"the item id {item!r} is of type {type(item).__name__}: wanted text or an integer.")
