"""The result of a benchmark: printed as tables, stored as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rounds


@dataclass(frozen=True)
class Measure:
    """A figure, measured once a round.

    Attributes:
      name: of the figure.
      unit: of its values.
      values: [rounds], in the order of the rounds.
    """

    name: str
    unit: str
    values: Sequence[float]


@dataclass
class Result:
    """What a benchmark found.

    Attributes:
      name: of the benchmark, and of its files.
      ratios: name -> [rounds], each computed within a round.
      measures: the figures behind them.
      details: what else is worth keeping: settings, sizes, formulas. For JSON.
    """

    name: str
    ratios: dict[str, list[float]] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    details: dict = field(default_factory=dict)

    def add(self, name: str, unit: str, values: Sequence[float]) -> None:
        """Adds a measure."""
        self.measures.append(Measure(name, unit, values))

    def median(self, name: str) -> float:
        """The median of a measure."""
        return statistics.median(next(one.values for one in self.measures if one.name == name))


def store(result: Result, directory: Path, context: dict) -> Path:
    """Writes `<name>.json`.

    Args:
      result: of a benchmark.
      directory: made if it is missing.
      context: what holds for all benchmarks of the run: command, machine, dataset.

    Returns:
      The path of the file. Its `ratios` are medians; `spread` has the rounds of ratios and measures.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values = {
        "benchmark": result.name,
        "ratios": {name: statistics.median(values) for name, values in result.ratios.items()},
        "spread": {name: rounds.summary(values) for name, values in result.ratios.items()},
        "measures": {one.name: {"unit": one.unit} | rounds.summary(one.values) for one in result.measures},
        "details": result.details,
        **context,
    }
    path = directory / f"{result.name}.json"
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def show(result: Result) -> None:
    """Prints the ratios and the measures as tables."""
    named = [*(Measure(name, "ratio", values) for name, values in result.ratios.items()), *result.measures]
    width = max(len(one.name) for one in named)
    print(f"\n{result.name:{width}}  {'median':>14} {'min':>14} {'max':>14}  unit")
    for one in named:
        figures = rounds.summary(one.values)
        numbers = " ".join(f"{_number(figures[key]):>14}" for key in ("median", "min", "max"))
        print(f"{one.name:{width}}  {numbers}  {one.unit}")


def _number(value: float) -> str:
    """Four digits that count, thousands marked."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
