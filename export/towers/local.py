"""The user tower of a bundle in this process: its SavedModel, without Keras.

Shape legend: B requests, L = max_history.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.answers import TowerAnswer
from export.catalogue import Catalogue
from export.catalogues import Catalogues
from export.errors import BundleError
from export.publishing.layout import read_tower, resolve_number, tower_directory
from export.runtime import tf


class LocalTower:
    """Answers histories with one published version; see `export.answers.Tower`."""

    def __init__(self, directory: Path, catalogue: Catalogue):
        """Loads a SavedModel, and asks it once who it is, which also spares the first request that wait.

        Args:
          directory: `<bundle>/user_tower/<number>`.
          catalogue: of the same version.

        Raises:
          BundleError: it cannot be loaded, or does not belong to the catalogue.
        """
        description = read_tower(directory)
        if not {"dimension", "max_history"} <= description.keys():
            raise BundleError(f"{directory} is not described in full; publish the run again.")
        if description["dimension"] != catalogue.dimension:
            raise BundleError(
                f"The tower {directory} gives {description['dimension']} dimensions, its index has"
                f" {catalogue.dimension}: they do not belong together. Publish the run again."
            )
        self.max_history: int = description["max_history"]
        self._catalogue = catalogue
        try:
            self._model = tf.saved_model.load(str(directory))
            versions = set(self([[]]).version.tolist())
        except (OSError, KeyError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise BundleError(f"{directory} cannot be loaded ({error}); publish again.") from error
        if versions != {catalogue.version.encode()}:
            raise BundleError(
                f"The tower {directory} answers version {sorted(versions)}, its index is"
                f" {catalogue.version!r}: they do not belong together. Publish the run again."
            )

    @classmethod
    def load(cls, bundle: Path, number: int | None, catalogues: Catalogues) -> "LocalTower":
        """Loads a published version, the latest when `number` is None; raises BundleError."""
        if number is None:
            return cls.load_newest(bundle, catalogues)[1]
        directory = tower_directory(bundle, resolve_number(bundle, number))
        return cls(directory, catalogues.get(read_tower(directory)["version"]))

    @classmethod
    def load_newest(cls, bundle: Path, catalogues: Catalogues) -> tuple[int, "LocalTower"]:
        """Loads the latest version and gives its number, too; raises BundleError.

        Where versions come so fast that it is removed while it is loaded, the one that is the latest then.
        """
        while True:
            number = resolve_number(bundle, None)
            try:
                return number, cls.load(bundle, number, catalogues)
            except BundleError:
                if tower_directory(bundle, number).is_dir():
                    raise

    def __call__(self, histories: Sequence[Sequence[str]], timeout: float | None = None) -> TowerAnswer:
        """Encodes the last `max_history` known items of each history; it does not stop at the timeout."""
        padded_BL = np.zeros((len(histories), self.max_history), np.int64)
        for padded, history in zip(padded_BL, histories, strict=True):
            last = self._catalogue.known(self._catalogue.rows(history))[-self.max_history :]
            padded[: len(last)] = last + 1
        # The signature is taken from the model each time: alone it would not keep its variables.
        outputs = self._model.signatures["serving_default"](item_ids=tf.constant(padded_BL))
        return TowerAnswer(*(outputs[name].numpy() for name in TowerAnswer._fields))
