"""The curve of attempts of docs/research.md: validation Recall@50 of every trial, in the order of the trials.

    python benchmarks/attempts.py

reads docs/results/research/attempts.csv and draws attempts.png beside it.
"""

import csv
import itertools
import math
from pathlib import Path

from matplotlib.figure import Figure

RECORD = Path(__file__).resolve().parents[1] / "docs/results/research/attempts.csv"
COLOURS = {"base": "#888888", "counterfactual": "#3b6ea5", "random": "#d98c21", "reversed": "#a83232"}
LABELS = {
    "base": "no counterfactual part",
    "counterfactual": "replaced by the target's scores",
    "random": "replaced at random (the control)",
    "reversed": "the choice turned around",
}


def draw(record: Path, picture: Path) -> None:
    """Draws a panel for each dataset: a point for each trial, a step for the best base so far.

    Args:
      record: CSV with the columns number, dataset, kind and recall@50.
      picture: where the PNG goes.
    """
    with record.open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    datasets = list(dict.fromkeys(trial["dataset"] for trial in trials))
    figure = Figure(figsize=(11, 4 * math.ceil(len(datasets) / 2)), layout="constrained")
    panels = figure.subplots(math.ceil(len(datasets) / 2), 2, squeeze=False)
    for axes, dataset in zip(panels.flat, datasets, strict=False):
        of_dataset = [
            (trial["kind"], float(trial["recall@50"])) for trial in trials if trial["dataset"] == dataset
        ]
        for kind, colour in COLOURS.items():
            points = [(place, recall) for place, (one, recall) in enumerate(of_dataset, 1) if one == kind]
            if points:
                axes.scatter(*zip(*points, strict=True), color=colour, label=LABELS[kind])
        of_bases = [recall if kind == "base" else 0.0 for kind, recall in of_dataset]
        best = list(itertools.accumulate(of_bases, max))
        places = range(1, len(best) + 1)
        axes.step(places, best, where="post", color=COLOURS["base"], label="best base so far")
        axes.set_title(dataset)
        axes.set_xlabel("trial on this dataset")
        axes.set_ylabel("Recall@50 of validation users")
        # Trials that failed outright would flatten the rest; their figures are in the record.
        axes.set_ylim(bottom=0.75 * best[-1])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    draw(RECORD, RECORD.with_suffix(".png"))
