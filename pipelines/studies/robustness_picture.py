"""The picture of disturbed histories: a panel a kind and measure, a curve a system."""

from pathlib import Path

from pipelines.studies.robustness_page import title

_MEASURES = {
    "recall@50": "Recall@50",
    "overlap@50": "overlap with the clean top 50",
    "exposure@50": "users whose top 50 has the item",
}


def draw(path: Path, record: dict) -> None:
    """Draws the curves of a record of pipelines/robustness.py with two standard errors on either side."""
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib.figure import Figure

    systems = record["systems"]
    conditions = next(iter(systems.values()))["conditions"]
    kinds = list(dict.fromkeys(map(title, conditions)))
    measures = [one for one in _MEASURES if any(one in condition["values"] for condition in conditions)]
    figure = Figure(figsize=(2.6 * len(kinds), 2.5 * len(measures)), layout="constrained")
    panels = figure.subplots(len(measures), len(kinds), squeeze=False, sharex=True, sharey="row")
    for row, measure in zip(panels, measures, strict=True):
        row[0].set_ylabel(_MEASURES[measure])
        for axes, kind in zip(row, kinds, strict=True):
            for name, system in systems.items():
                _curve(axes, name, system, kind, measure)
    for axes, kind in zip(panels[0], kinds, strict=True):
        axes.set_title(kind, fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("rate")
    for text in panels[0, 0].legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    figure.savefig(path, dpi=100)


def _curve(axes, name: str, system: dict, kind: str, measure: str) -> None:
    conditions = [one for one in system["conditions"] if title(one) == kind and measure in one["values"]]
    if not conditions:  # only an attack has an item to be exposed to
        return
    conditions.sort(key=lambda one: one["rate"])
    points = [(0.0, *_clean(system, conditions[0], measure))]
    for one in conditions:
        value = one["values"][measure]
        points.append((one["rate"], value["mean"], value["standard_error"] or 0.0))
    rates, means, errors = zip(*(point for point in points if point[1] is not None), strict=True)
    axes.errorbar(rates, means, yerr=[2 * error for error in errors], label=name, capsize=2, marker=".")


def _clean(system: dict, condition: dict, measure: str) -> tuple[float | None, float]:
    """Mean and standard error without a disturbance; the exposure's is what the change is counted from."""
    if measure == "overlap@50":
        return 1.0, 0.0
    if measure == "exposure@50":
        value, change = condition["values"][measure]["mean"], condition["change"][measure]["mean"]
        return (None if value is None else value - change), 0.0
    return system["clean"][measure]["mean"], system["clean"][measure]["standard_error"] or 0.0
