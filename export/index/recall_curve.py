"""The curve that an index was chosen from: recall against the time of a query, as a table and a picture."""

import importlib.util
from pathlib import Path
from typing import Any

PICTURE = "recall_latency.png"


def format_curve(description: dict[str, Any]) -> str:
    """Renders the measured settings of an index as a table for people, the chosen one marked.

    Args:
      description: the content of `index.json`; its `curve` has recall@k against exact search and the median
        milliseconds of a query alone, on one thread.
    """
    lines = [f"{'leaves':>8} {'reorder':>8} {'recall@' + str(description['k']):>10} {'ms':>8}"]
    for point in description["curve"]:
        leaves, reorder = point.get("leaves_to_search", "exact"), point.get("reorder", "")
        recall = "-" if point["recall"] is None else f"{point['recall']:.4f}"
        time_text = "-" if point["milliseconds"] is None else f"{point['milliseconds']:.3f}"
        mark = "  <- chosen" if _is_chosen(point, description) else ""
        lines.append(f"{leaves:>8} {reorder:>8} {recall:>10} {time_text:>8}{mark}")
    return "\n".join(lines)


def draw_curve(description: dict[str, Any], path: Path) -> bool:
    """Draws the curve where matplotlib, an optional package, is installed.

    Args:
      description: the content of `index.json`.
      path: of the picture.

    Returns:
      Whether there is a picture now; not without matplotlib, nor when nothing was measured.
    """
    points = [point for point in description["curve"] if point["recall"] is not None]
    if not points or importlib.util.find_spec("matplotlib") is None:
        return False
    # Not pyplot: it keeps figures, and looks for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for reorder in sorted({point.get("reorder") or 0 for point in points}):
        line = sorted(
            (point["recall"], point["milliseconds"])
            for point in points
            if (point.get("reorder") or 0) == reorder
        )
        label = f"tree, {reorder:,} candidates scored again" if reorder else "everything searched"
        axes.plot(*zip(*line, strict=True), marker="o", label=label)
    chosen = [point for point in points if _is_chosen(point, description)]
    for point in chosen[:1]:
        axes.plot(
            point["recall"], point["milliseconds"], "o", markersize=14, fillstyle="none", color="black",
            label="chosen",
        )  # fmt: skip
    axes.axvline(description["target_recall"], color="grey", linestyle=":", label="target")
    axes.set_yscale("log")
    axes.set_xlabel(f"recall@{description['k']} against exact search")
    axes.set_ylabel("median milliseconds a query, one thread")
    axes.set_title(f"{description['items']:,} items x {description['dimension']}")
    axes.legend()
    figure.savefig(path, dpi=120)
    return True


def _is_chosen(point: dict[str, Any], description: dict[str, Any]) -> bool:
    if description["method"] == "exact":
        return "leaves_to_search" not in point
    chosen = description["settings"]
    return all(point.get(name) == chosen[name] for name in ("leaves_to_search", "reorder"))
