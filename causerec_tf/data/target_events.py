"""Which events may be targets, and how much each counts in training, by columns of events. No TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from causerec_tf.errors import InputError
from causerec_tf.schema import FIRST_VALUE, FittedColumn


@dataclass(frozen=True)
class TargetEvents:
    """What is asked for; nothing: every event may be a target, and all count alike.

    Attributes:
      event_kind: name of the categorical column of events that says what kind an event is.
      target_events: the kinds that are targets, in training and evaluation; histories have all kinds.
        Empty: every event.
      weight_column: name of the numeric column of events by which a target counts in training. Empty: all
        count alike.
    """

    event_kind: str = ""
    target_events: tuple[str, ...] = ()
    weight_column: str = ""

    def resolve(self, events: Sequence[FittedColumn]) -> "TargetColumns":
        """What it is in a dataset, by its columns of events.

        Raises:
          InputError: the dataset lacks such a column, or no training event is of such a kind.
        """
        found = TargetColumns()
        if self.target_events:
            fitted = _column(events, "event_kind", self.event_kind, "categorical")
            assert fitted.vocabulary is not None
            values = fitted.vocabulary.read_bytes().decode("utf-8").split("\n")[:-1]
            if unknown := [kind for kind in self.target_events if kind not in values]:
                raise InputError(
                    f"target_events={unknown[0]}: no training event has this {fitted.column.key}. It has"
                    f" {', '.join(map(repr, values[:10]))}{', ...' if len(values) > 10 else ''}."
                )
            codes = tuple(values.index(kind) + FIRST_VALUE for kind in self.target_events)
            found = TargetColumns(fitted.column.key, codes)
        if self.weight_column:
            weight = _column(events, "weight_column", self.weight_column, "numeric").column.key
            found = TargetColumns(found.kind, found.codes, weight)
        return found

    def description(self) -> dict[str, str]:
        """What records say of it beside the protocol: it decides who is measured on what."""
        if not self.target_events:
            return {}
        return {"event_kind": self.event_kind, "target_events": ",".join(self.target_events)}


@dataclass(frozen=True)
class TargetColumns:
    """`TargetEvents` in a dataset.

    Attributes:
      kind: key of the column of kinds; empty: every event may be a target.
      codes: the kinds as stored.
      weight: key of the column of weights; empty: all count alike.
    """

    kind: str = ""
    codes: tuple[int, ...] = field(default=())
    weight: str = ""

    def are_targets(self, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Which events may be targets, bool [events], by the columns of all; None: every one."""
        return np.isin(columns[self.kind], self.codes) if self.kind else None


def _column(events: Sequence[FittedColumn], setting: str, name: str, kind: str) -> FittedColumn:
    """The column of events that a setting names."""
    for fitted in events:
        if fitted.column.name == name and fitted.column.kind == kind:
            return fitted
    known = [fitted.column.name for fitted in events if fitted.column.kind == kind]
    raise InputError(
        f"{setting}={name}: the dataset has no such {kind} column of events. It has"
        f' {", ".join(known) or "none"}; prepare it with a schema that has owner = "event", kind ='
        f' "{kind}".'
    )
