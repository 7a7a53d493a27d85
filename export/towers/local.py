"""The user tower of a bundle in this process: its SavedModel, without Keras.

Shape legend: B requests, L = max_history.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.index.labels import lines_of
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import TOWER_VOCABULARY, newest, read_tower, resolve_number, tower_directory
from export.store.runtime import tf
from export.tower_columns import Given, TowerColumns
from export.towers.answers import TowerAnswer, joined
from export.towers.identity import read_graph
from export.towers.requests import WITH_FEATURES, at_places, padded_histories, tensors


class LocalTower:
    """Answers histories with one published version; see `export.towers.answers.Tower`.

    Attributes:
      number: of the version.
      max_history: how many known items of a history it reads, the last.
      columns: what it reads beside item ids.
    """

    def __init__(self, directory: Path, catalogue: Catalogue):
        """Loads a SavedModel, and encodes an item in each way, which also spares the first request that wait.

        Every byte of its files is checked, and its vocabulary is compared with the catalogue of its version.

        Raises:
          BundleError: it is damaged, cannot be loaded, or does not belong to the catalogue.
        """
        description = read_tower(directory)
        checksums.verify(directory)
        item_ids = catalogue.vocabulary
        if checksums.read(directory, TOWER_VOCABULARY) != lines_of(item_ids):
            raise BundleError(
                f"The vocabulary of {directory} is not that of its index: they do not belong together."
                " Publish the run again."
            )
        self.number = int(directory.name)
        self.max_history: int = description["max_history"]
        self.columns = TowerColumns.described(description, f"{directory}:")
        self._catalogue = catalogue
        with loading(directory):
            read_graph(directory)
            self._model = tf.saved_model.load(str(directory))
            if self.columns:
                self._of_values([item_ids[:1]], [{}])
            vectors, _, version, *_ = self([item_ids[:1]])
        size = description["vectors_per_user"] * catalogue.dimension
        if vectors.size != size or vectors.shape[-1] != catalogue.dimension or not np.isfinite(vectors).all():
            raise BundleError(
                f"{directory} answers {list(vectors.shape)} vectors that are not finite, or not as its"
                " description and its index tell; publish again."
            )
        if set(version.tolist()) != {catalogue.version.encode()}:
            raise BundleError(
                f"The tower {directory} answers version {version.tolist()}, its index is"
                f" {catalogue.version!r}: they do not belong together. Publish the run again."
            )

    @classmethod
    def load(cls, bundle: Path, number: int | None, catalogues: CatalogueCache) -> "LocalTower":
        """Loads a published version, the latest when `number` is None; raises BundleError."""

        def loaded(directory: Path) -> "LocalTower":
            return cls(directory, catalogues.get(read_tower(directory)["version"]))

        if number is None:
            return newest(bundle, loaded)
        return loaded(tower_directory(bundle, resolve_number(bundle, number)))

    def __call__(
        self,
        histories: Sequence[Sequence[str]],
        timeout: float | None = None,
        given: Sequence[Given] | None = None,
    ) -> TowerAnswer:
        """Encodes the last `max_history` known items of each history; it does not stop at the timeout.

        Histories of which nothing else is given are answered by ids alone, whatever is asked beside them.
        """
        with_values = [number for number, one in enumerate(given or ()) if one]
        if given is None or not with_values:
            return self._of_ids(histories)
        alone = [number for number, one in enumerate(given) if not one]
        parts = [self._of_values([histories[n] for n in with_values], [given[n] for n in with_values])]
        if alone:
            parts.append(self._of_ids([histories[n] for n in alone]))
        return joined(parts).rows(np.argsort([*with_values, *alone]))

    def _of_ids(self, histories: Sequence[Sequence[str]]) -> TowerAnswer:
        known = (self._catalogue.known(self._catalogue.rows(history)) + 1 for history in histories)
        padded_BL = padded_histories([one[-self.max_history :] for one in known], self.max_history)
        return self._answer("serving_default", item_ids=tf.constant(padded_BL))

    def _of_values(self, histories: Sequence[Sequence[str]], given: Sequence[Given]) -> TowerAnswer:
        read: list[list[str]] = []
        values: list[Given] = []
        for history, one in zip(histories, given, strict=True):
            known = [place for place, item in enumerate(history) if self._catalogue.knows(item)]
            known = known[-self.max_history :]
            read.append([history[place] for place in known])
            values.append(at_places(self.columns, one, known))
        return self._answer(WITH_FEATURES, **tensors(read, self.max_history, self.columns, values))

    def _answer(self, signature: str, **inputs: tf.Tensor) -> TowerAnswer:
        # The signature is taken from the model each time: alone it would not keep its variables.
        outputs = self._model.signatures[signature](**inputs)
        return TowerAnswer(**{name: outputs[name].numpy() for name in TowerAnswer._fields if name in outputs})
