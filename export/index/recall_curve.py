"""The curve that an index was chosen from: recall against the time of a query."""

from typing import Any


def format_curve(description: dict[str, Any]) -> str:
    """The measured settings in `index.json` as a table for people, the chosen one marked."""
    lines = [f"{'leaves':>8} {'reorder':>8} {'recall@' + str(description['k']):>10} {'ms':>8}"]
    chosen = description["settings"]  # of an exact search empty, as its point has neither
    for point in description["curve"]:
        leaves, reorder = point.get("leaves_to_search", "exact"), point.get("reorder", "")
        recall = "-" if point["recall"] is None else f"{point['recall']:.4f}"
        time_text = "-" if point["milliseconds"] is None else f"{point['milliseconds']:.3f}"
        is_chosen = all(point.get(name) == chosen.get(name) for name in ("leaves_to_search", "reorder"))
        mark = "  <- chosen" if is_chosen else ""
        lines.append(f"{leaves:>8} {reorder:>8} {recall:>10} {time_text:>8}{mark}")
    return "\n".join(lines)
