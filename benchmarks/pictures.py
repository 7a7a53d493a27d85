"""The picture beside a result."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Measure
from benchmarks.rounds import summary

_COLOUR = "#3b6ea5"


def draw_bars(path: Path, title: str, measures: Sequence[Measure]) -> None:
    """Draws medians as bars, with a line from the slowest to the fastest round.

    Args:
      path: of the picture.
      title: above it.
      measures: one bar each; all of one unit, where more is better.
    """
    axes = _axes(0.5 * len(measures) + 1.5)
    spreads = [summary(one.values) for one in measures]
    medians = [spread["median"] for spread in spreads]
    below = [spread["median"] - spread["min"] for spread in spreads]
    above = [spread["max"] - spread["median"] for spread in spreads]
    bars = axes.barh([one.name for one in measures], medians, xerr=[below, above], color=_COLOUR, capsize=3)
    axes.bar_label(bars, [f" {median:,.0f}" for median in medians], label_type="center", color="white")
    axes.invert_yaxis()
    axes.set_xlabel(measures[0].unit)
    axes.set_title(title)
    _save(axes, path)


def draw_growth(
    path: Path, title: str, series: Mapping[str, Mapping[int, Sequence[float]]], unit: str
) -> None:
    """Draws a time against the catalogue, one line a system.

    Args:
      path: of the picture.
      title: above it.
      series: system -> items of the catalogue -> [rounds] times.
      unit: of the times.
    """
    axes = _axes(4.0)
    for name, times in series.items():
        spreads = [summary(values) for values in times.values()]
        medians = [spread["median"] for spread in spreads]
        below = [spread["median"] - spread["min"] for spread in spreads]
        above = [spread["max"] - spread["median"] for spread in spreads]
        axes.errorbar(list(times), medians, yerr=[below, above], marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("items in the catalogue")
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.legend()
    _save(axes, path)


def draw_curves(path: Path, title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draws recall against the time of a query, one line a system.

    Args:
      path: of the picture.
      title: above it.
      curves: system -> (recall, milliseconds) of each of its settings.
    """
    axes = _axes(5.0)
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set_yscale("log")
    axes.set_xlabel("recall against exact search")
    axes.set_ylabel("milliseconds a query")
    axes.set_title(title)
    axes.legend()
    _save(axes, path)


def _axes(height: float):
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(8.0, height), layout="constrained").subplots()


def _save(axes, path: Path) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.figure.savefig(path, dpi=120)
