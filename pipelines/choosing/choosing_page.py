"""What a search leaves to be read: trials, rules beside the best, what the counterfactual part buys."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from causerec_tf.comparison import compare
from causerec_tf.settings import WITHOUT_SEEN, Settings
from pipelines.choosing.rounds import Attempt, RoundSearch

_TESTED = ("recall@50", "ndcg@50")
_TESTED_OF_USERS = (*_TESTED, *(metric + WITHOUT_SEEN for metric in _TESTED))
_LEFT_OUT = ", seen left out"
_HEAD = " | ".join(metric.replace(WITHOUT_SEEN, _LEFT_OUT) for metric in _TESTED_OF_USERS)


def page(
    search: RoundSearch,
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    title: str,
    command: str,
) -> str:
    """The page, in Markdown.

    Args:
      search: that has ended.
      baselines: name -> `validation` and maybe `without_seen` -> figures, of those that the data allow.
      title: of the page.
      command: that made it.
    """
    best = search.best
    budget = f"{search.seconds / 60:g} minutes of training for all trials"
    lines = [
        f"# {title}",
        "",
        "```",
        command,
        "```",
        "",
        f"Validation users; {budget}. The test users were not looked at. A trial counts by",
        "the geometric mean of its Recall@50 and NDCG@50, seen items kept and left out, if no other",
        "`--choose_by` was asked for.",
    ]
    lines += ["", f"Chosen: **{best.round_name}.{best.name}**, with", "", "```"]
    lines += [*chosen_flagfile(search).splitlines()[1:], "```", "", "## Every trial", ""]
    lines += [f"| round | trial | {_HEAD} | epochs | s an epoch | |"]
    lines += ["|---|---|" + "---:|" * 6 + "---|"]
    lines += [_row(one, is_best=one is best) for one in search.attempts]
    lines += ["", "A trial takes over what its round started from. Settings of each:", ""]
    lines += [f"- `{one.name}`: {_in_words(one.changed)}" for one in search.attempts]
    lines += [
        "",
        "## Beside simple rules",
        "",
        f"| | {_HEAD} |",
        "|---|" + "---:|" * 4,
    ]
    for name, found in {"chosen": best.result, **baselines}.items():
        lines.append(f"| {name} | " + " | ".join(_cells(found)) + " |")
    lines += ["", "## The counterfactual part", "", *_counterfactual(search)]
    return "\n".join(lines) + "\n"


def chosen_flagfile(search: RoundSearch) -> str:
    """A flagfile of the best trial: what acts, without places; more epochs where more are known to help."""
    best = search.best
    epochs = best.settings.epochs
    # The last round has the longest trials. What is better than these, has epochs enough.
    if best.is_still_gaining and best.round_name == search.preset.rounds[-1].name:
        epochs = max(epochs, search.preset.least_epochs)
    settings = dataclasses.replace(best.settings, dataset="", run="", epochs=epochs, patience=epochs)
    default = Settings()
    lines = [
        f"--{name}={value}"
        for name, value in settings.acting().items()
        if name not in ("dataset", "run") and value != getattr(default, name)
    ]
    figures = ", ".join(f"{name} {_figure(best.result['validation'], name)}" for name in _TESTED)
    head = f"# {best.round_name}.{best.name}: validation {figures}"
    return "\n".join([head, *lines]) + "\n"


def _row(one: Attempt, *, is_best: bool) -> str:
    if "failed" in one.result:
        return f"| {one.round_name} | {one.name} |" + " |" * 6 + f" {one.result['failed']} |"
    note = "**chosen**" if is_best else "control" if one.is_control else ""
    cells = [*_cells(one.result), str(one.result["epochs"]), f"{one.result['seconds_per_epoch']:.1f}", note]
    return f"| {one.round_name} | {one.name} | " + " | ".join(cells) + " |"


def _counterfactual(search: RoundSearch) -> list[str]:
    """Each option of a round with a control, and the control, against the same model without."""
    rounds = [one for one in search.preset.rounds if one.control is not None]
    lines: list[str] = []
    for one in rounds:
        able = [attempt for attempt in search.of_round(one.name) if attempt.users]
        without = next((attempt for attempt in able if not attempt.changed), None)
        others = [attempt for attempt in able if attempt.changed]
        if without is None or not others:
            continue
        lines += [
            f"Against the same model without, which had as much time ({without.result['epochs']} epochs):"
        ]
        lines += ["", "| | metric | gain | 95 % over users | p |", "|---|---|---:|---:|---:|"]
        for attempt in others:
            for metric in _TESTED_OF_USERS:
                if metric not in attempt.users:
                    continue
                found = compare({0: attempt.users[metric]}, {0: without.users[metric]})
                share = found.baseline or 1.0
                low, high = found.interval.low / share, found.interval.high / share
                cells = [f"{found.difference / share:+.1%}", f"{low:+.1%} to {high:+.1%}"]
                lines.append(
                    f"| {attempt.name} | {metric.replace(WITHOUT_SEEN, _LEFT_OUT)} | "
                    + " | ".join(cells)
                    + f" | {found.interval.p_value:.3f} |"
                )
    return lines or ["It was not tried."]


def _cells(found: Mapping[str, Any]) -> list[str]:
    """The figures under `_HEAD`."""
    of_policies = (found["validation"], found.get("without_seen", {}))
    return [_figure(values, metric) for values in of_policies for metric in _TESTED]


def _figure(values: Mapping[str, Any], metric: str) -> str:
    return f"{values[metric]:.4f}" if metric in values else ""


def _in_words(changed: Mapping[str, Any]) -> str:
    return " ".join(f"`--{name}={value}`" for name, value in changed.items()) or "as it is"
