"""The picture of a comparison: every row with its seeds, in the metrics that are tested."""

from collections.abc import Sequence
from pathlib import Path

from causerec_tf import comparison
from causerec_tf.data.sequences import Dataset
from causerec_tf.files import file_written_beside
from pipelines.comparison.plan import MEASURES, Plan
from pipelines.comparison.summary import Summary

NAME = "comparison.png"
_COLOURS = {"paper": "#3b6ea5", "tuned": "#c1662f"}


def draw(path: Path, plan: Plan, dataset: Dataset, summaries: Sequence[Summary]) -> None:
    """Draws means with the spread over seeds, and each seed's value, of the rows that have a result."""
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib.figure import Figure

    shown = [one for one in summaries if one.results]
    figure = Figure(figsize=(10.0, 0.35 * len(shown) + 1.5), layout="constrained")
    axes = figure.subplots(1, len(plan.tested), sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, plan.tested, strict=True):
        for place, summary in enumerate(shown):
            values, colour = summary.values(metric), _COLOURS[summary.row.recipe]
            spread = comparison.spread(values) or 0.0
            axis.errorbar(sum(values) / len(values), place, xerr=spread, fmt="o", capsize=3, color=colour)
            axis.plot(values, [place] * len(values), "|", color=colour, markersize=10)
            if summary.row.system == plan.baselines[summary.row.recipe]:
                axis.axvline(sum(values) / len(values), color=colour, linewidth=0.8, linestyle=":")
        axis.set_xlabel(metric)
        axis.locator_params(axis="x", nbins=5)
        axis.margins(y=0.3 / len(shown))
    axes[0].set_yticks(range(len(shown)), [one.name for one in shown])
    axes[0].invert_yaxis()
    figure.suptitle(
        f"{dataset.name}, {MEASURES[plan.measure]}: mean, seeds and their standard deviation;"
        f" dotted: {', '.join(dict.fromkeys(plan.baselines.values()))}"
    )
    with file_written_beside(path) as beside:
        figure.savefig(beside, format="png", dpi=120)
