"""What a search leaves to be read: a page of its trials, and flagfiles of the best."""

import dataclasses
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from pipelines.comparison.search import BEST, Search


def page(searches: Sequence[Search], *, title: str, command: str, shown: Sequence[str]) -> str:
    """Every trial of every system, in Markdown, with the command that made them.

    `shown` are the validation figures that get a column, beside the one that trials are compared by.
    """
    lines = [f"# {title}", "", "```", command, "```", ""]
    lines += ["Validation users, at the best epoch of each trial; the test users were not looked at."]
    for search in searches:
        columns = list(dict.fromkeys((*shown, search.choose_by)))
        lines += ["", f"## {search.system.name}", ""]
        lines += ["| trial | tried | " + " | ".join(columns) + " | epoch | |"]
        lines += ["|---|---|" + "---:|" * (len(columns) + 1) + "---|"]
        for trial in search.trials:
            best = trial.user_attrs.get(BEST)
            figures = [f"{best['validation'][name]:.4f}" if best else "" for name in columns]
            epochs = f"{best['epoch']} of {len(trial.intermediate_values)}" if best else ""
            outcome = "**best**" if search.best == trial else trial.state.name.lower()
            outcome = "" if outcome == "complete" else outcome
            tried = " ".join(f"`{flag}`" for flag in tried_flags(trial))
            lines.append("| " + " | ".join([str(trial.number), tried, *figures, epochs, outcome]) + " |")
    return "\n".join(lines) + "\n"


def tried_flags(trial: FrozenTrial) -> list[str]:
    """What a trial tried, as flags, numbers at three digits."""
    flags = []
    for name, value in trial.params.items():
        if isinstance(value, str) and (value.startswith("--") or value == "as it is"):
            flags += [] if value == "as it is" else value.split(" ")
        else:
            flags.append(f"--{name}={value:.3g}" if isinstance(value, float) else f"--{name}={value}")
    return flags


def best_flagfile(search: Search) -> str:
    """A flagfile of the best trial: its settings without its places."""
    best = search.best
    assert best is not None
    settings = dataclasses.replace(search.settings_of(best), dataset="", run="")
    lines = settings.to_flagfile().splitlines(keepends=True)
    score = f"validation {search.choose_by} {best.value:.4f}"
    kept = [line for line in lines if not line.endswith("=\n")]
    return f"# {search.system.name}, trial {best.number}: {score}\n" + "".join(kept)
