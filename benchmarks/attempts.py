"""The curve of attempts of docs/research.md: validation Recall@50 of every trial, in the order of the trials.

    python benchmarks/attempts.py

reads docs/results/research/attempts.csv and draws attempts.png beside it.
"""

import csv
from pathlib import Path

from matplotlib.figure import Figure

RECORD = Path(__file__).resolve().parents[1] / "docs/results/research/attempts.csv"
COLOURS = {"base": "#888888", "counterfactual": "#3b6ea5", "lot": "#d98c21", "reversed": "#a83232"}
LABELS = {
    "base": "no counterfactual part",
    "counterfactual": "replaced by the target's scores",
    "lot": "replaced by lot (the control)",
    "reversed": "the choice turned around",
}


def draw(record: Path, picture: Path, datasets: tuple[str, ...] = ("yelp2018_tenth", "beauty")) -> None:
    """Draws a panel for each dataset: a point for each trial, a step for the best base so far.

    Args:
      record: CSV with the columns number, dataset, kind and recall@50.
      picture: where the PNG goes.
      datasets: that get a panel.
    """
    with record.open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, len(datasets), squeeze=False)
    for axes, dataset in zip(panels[0], datasets, strict=True):
        of_dataset = [trial for trial in trials if trial["dataset"] == dataset]
        for kind, colour in COLOURS.items():
            points = [
                (int(trial["number"]), float(trial["recall@50"]))
                for trial in of_dataset
                if trial["kind"] == kind
            ]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, label=LABELS[kind])
        best, curve = 0.0, []
        for trial in of_dataset:
            if trial["kind"] == "base":
                best = max(best, float(trial["recall@50"]))
            curve.append((int(trial["number"]), best))
        axes.step(*zip(*curve, strict=True), where="post", color=COLOURS["base"], label="best base so far")
        axes.set_title(dataset)
        axes.set_xlabel("trial")
        axes.set_ylabel("Recall@50 of validation users")
        # Trials that failed outright would flatten the rest; their figures are in the record.
        axes.set_ylim(bottom=0.75 * best)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    draw(RECORD, RECORD.with_suffix(".png"))
