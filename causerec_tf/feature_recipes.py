"""Settings and the columns of a dataset -> what encodes them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from causerec_tf.errors import InputError
from causerec_tf.schema import OWNERS, FittedColumn

if TYPE_CHECKING:
    from causerec_tf.data.sequences import Dataset
    from causerec_tf.features.context import ContextFeatures
    from causerec_tf.features.items import ItemFeatures
    from causerec_tf.settings import Settings

ALL, NONE = "all", "none"


@dataclass(frozen=True)
class DatasetFeatures:
    """What a dataset knows beyond user, item and time.

    Attributes:
      columns: in the order of the schema.
      item_values: name of an item column -> the stored values of all items, [V + 1, ...]; row 0 is padding.
    """

    columns: tuple[FittedColumn, ...] = ()
    item_values: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, *owners: str) -> list[FittedColumn]:
        """The columns of some owners."""
        return [one for one in self.columns if one.column.owner in owners]

    def only(self, wanted: str) -> "DatasetFeatures":
        """Those that `--features` names.

        Raises:
          InputError: it names one that is not there.
        """
        if wanted == ALL:
            return self
        keys = [] if wanted == NONE else wanted.split(",")
        known = [one.column.key for one in self.columns]
        if unknown := [key for key in keys if key not in known]:
            raise InputError(
                f"--features={wanted} names {unknown[0]}, and the dataset has"
                f" {', '.join(known) or 'no schema'}: wanted some of these, {ALL} or {NONE}."
            )
        return DatasetFeatures(tuple(one for one in self.columns if one.column.key in keys), self.item_values)


def features_of(dataset: "Dataset") -> DatasetFeatures:
    """The columns of a dataset with what training events say of them, and the values of its items."""
    columns = fitted_columns(dataset)
    return DatasetFeatures(columns, dataset.item_features() if dataset.schema.of("item") else {})


def fitted_columns(dataset: "Dataset") -> tuple[FittedColumn, ...]:
    """The columns of a dataset with what training events say of them, in the order of the schema."""
    fitted = {one.column.key: one for owner in OWNERS for one in dataset.fitted_columns(owner)}
    return tuple(fitted[column.key] for column in dataset.schema.columns)


def reads_items(settings: "Settings", dataset: "Dataset") -> bool:
    """Whether the settings ask for columns of items that the dataset has."""
    return bool(DatasetFeatures(fitted_columns(dataset)).only(settings.features).of("item"))


def check_strategy(settings: "Settings", dataset: "Dataset") -> None:
    """Raises `InputError` where columns are read and the strategy cannot."""
    if settings.strategy == "parameter_server" and dataset.schema and settings.features != NONE:
        raise InputError(
            f"--strategy={settings.strategy} does not train with features: the values of the items"
            " would have to lie on the servers. Train with --strategy=mirrored or multi_worker, or without"
            f" them, --features={NONE}."
        )


def item_features(settings: "Settings", features: DatasetFeatures) -> "ItemFeatures | None":
    """What encodes the item columns that the settings ask for; None if there are none."""
    from causerec_tf.features.items import ItemFeatures

    columns = features.only(settings.features).of("item")
    if not columns:
        if settings.acting().get("id_dropout", type(settings).id_dropout) != type(settings).id_dropout:
            raise InputError(
                f"--id_dropout={settings.id_dropout} has no effect here: it acts with columns of items, and"
                " the model reads none. Leave it out."
            )
        return None
    encoders = {one.column.name: _encoder(one, settings) for one in columns}
    return ItemFeatures(encoders, features.item_values)


def context_features(settings: "Settings", features: DatasetFeatures) -> "ContextFeatures | None":
    """What encodes the columns of users, events and requests that are asked for; None if there are none.

    Raises:
      InputError: a column cannot be read as the settings train, or a setting has nothing to act on.
    """
    from causerec_tf.features.context import ContextFeatures

    columns = features.only(settings.features).of("user", "event", "request")
    if settings.whole_sequences:
        for column in (one.column for one in columns):
            if column.kind == "age":
                raise InputError(
                    f"--training_rows=sequences reads an event once for all requests after it, and the column"
                    f" {column.key!r} is its age at each of them: train on windows, or leave the column out"
                    " with --features."
                )
    if settings.acting().get("history_dropout") and not features.only(settings.features).of(
        "user", "request"
    ):
        raise InputError(
            f"--history_dropout={settings.history_dropout} has no effect here: it acts with columns of the"
            " user or the request, and the model reads none. Leave it out."
        )
    if not columns:
        return None
    encoders = {one.column.key: _encoder(one, settings) for one in columns}
    missing = {
        one.column.key: one.stored_where_missing() for one in columns if one.column.missing is not None
    }
    return ContextFeatures([one.column for one in columns], encoders, missing)


def _encoder(fitted: FittedColumn, settings: "Settings") -> Any:
    """What encodes the stored values of a column."""
    from causerec_tf.features import categorical, dense_vectors, moments, multi, numeric
    from causerec_tf.features.tables import seed_of_column

    column, width = fitted.column, settings.embedding_dim
    start: dict[str, Any] = {
        "std": settings.feature_init_std,
        "seed": seed_of_column(settings.seed, column.key),
    }
    if column.kind == "categorical":
        return categorical.CategoricalEncoder(fitted.num_values, width, **start)
    if column.kind == "multi":
        return multi.MultiEncoder(fitted.num_values + 2, width, num_zero=2, **start)
    if column.kind == "text":
        return multi.MultiEncoder(column.size + 1, width, num_zero=1, **start)
    if column.kind == "numeric":
        return numeric.NumericEncoder(width, mean=fitted.mean, deviation=fitted.std, **start)
    if column.kind == "embedding":
        return dense_vectors.VectorEncoder(column.size, width, **start)
    return moments.MomentEncoder(column.kind, width, **start)
