"""The page of disturbed histories, a table for each system; and one system's figures for the terminal."""

_KINDS = {
    "insertion": "random insertion",
    "replacement": "random replacement",
    "removal": "removal",
    "popular": "popular insertion",
    "attack": "attack",
}
_COLUMNS = ("recall@50", "ndcg@50", "hr@50")


def title(condition: dict) -> str:
    """What a condition's kind is called, with the band of its attacked items."""
    name = _KINDS[condition["kind"]]
    return f"{name}, {condition['band']}" if "band" in condition else name


def summary(conditions: list[dict]) -> str:
    """One system's figures.

    Args:
      conditions: records of `causerec_tf.studies.under_disturbance.Condition`.

    Returns:
      Lines of a table for the terminal.
    """
    lines = [f"{'disturbed histories':28}{'rate':>6}  {'recall@50':18}change"]
    for one in conditions:
        recall, change = one["values"]["recall@50"], one["change"]["recall@50"]
        lines.append(f"{title(one):28}{one['rate']:6g}  {_figure(recall):18}{_figure(change, signed=True)}")
    return "\n".join(lines)


def write(record: dict, *, picture: str | None) -> str:
    """Writes the page.

    Args:
      record: of pipelines/robustness.py.
      picture: name of the picture's file, beside the page; None if there is none.

    Returns:
      Markdown.
    """
    drawn = record["disturbances"]
    lines = [
        f"# Disturbed histories on {record['dataset']['name']}",
        "",
        "```",
        record["command"],
        "```",
        "",
        f"Seed {drawn['seed']}, {drawn['draws']} draws of each kind; dataset fingerprint"
        f" `{record['dataset']['fingerprint'][:16]}`. Means over users ± their standard errors; changes are"
        " of the same users, against the clean history. Exposure: share of the attacked users whose top 50"
        " has the item, and its change. The last column is the change of Recall@50 less that of the first"
        " run, user by user: below 0 where this run loses more.",
    ]
    if picture is not None:
        lines += ["", f"![Curves of every system and kind]({picture})"]
    for name, system in record["systems"].items():
        lines += ["", f"## {name} ({system['system']}, seed {system['seed']})", ""]
        lines += [
            "| disturbance | rate | Recall@50 | change | NDCG@50 | HR@50 | overlap@50"
            " | exposure@50 | change | less the first run's |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        clean = " | ".join(_figure(system["clean"][one]) for one in _COLUMNS)
        recall, *others = clean.split(" | ")
        lines.append(f"| none | 0 | {recall} | | {' | '.join(others)} | 1 | | | |")
        lines += [_row(condition) for condition in system["conditions"]]
    return "\n".join([*lines, ""])


def _row(condition: dict) -> str:
    values, change = condition["values"], condition["change"]
    cells = [
        title(condition),
        f"{condition['rate']:g}",
        _figure(values["recall@50"]),
        _figure(change["recall@50"], signed=True),
        _figure(values["ndcg@50"]),
        _figure(values["hr@50"]),
        _figure(values["overlap@50"]),
    ]
    if "exposure@50" in values:
        cells += [_figure(values["exposure@50"]), _figure(change["exposure@50"], signed=True)]
    else:
        cells += ["", ""]
    cells.append(_figure(condition["change_minus_first"]["recall@50"], signed=True))
    return "| " + " | ".join(cells) + " |"


def _figure(summary: dict, *, signed: bool = False) -> str:
    mean, error = summary["mean"], summary["standard_error"]
    if mean is None:
        return "no user"
    text = f"{mean:+.4f}" if signed else f"{mean:.4f}"
    return text if error is None else f"{text} ± {error:.4f}"
