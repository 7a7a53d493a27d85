"""The page of disturbed histories, a table for each system; and one system's figures for the terminal."""

from pipelines.command_line.report import mean_and_error

_KINDS = {
    "insertion": "random insertion",
    "replacement": "random replacement",
    "removal": "removal",
    "popular": "popular insertion",
    "attack": "attack",
}


def title(condition: dict) -> str:
    """What a condition's kind is called, with the band of its attacked items."""
    name = _KINDS[condition["kind"]]
    return f"{name}, {condition['band']}" if "band" in condition else name


def summary(conditions: list[dict]) -> str:
    """One system's figures, a table for the terminal of records of `under_disturbance.Condition`."""
    lines = [f"{'disturbed histories':28}{'rate':>6}  {'recall@50':18}change"]
    for one in conditions:
        recall = mean_and_error(one["values"]["recall@50"])
        change = mean_and_error(one["change"]["recall@50"], sign="+")
        lines.append(f"{title(one):28}{one['rate']:6g}  {recall:18}{change}")
    return "\n".join(lines)


def write(record: dict, *, picture: str | None) -> str:
    """The page of a record of pipelines/robustness.py, in Markdown; `picture` is a file beside it, if any."""
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
        recall, ndcg, hr = (mean_and_error(system["clean"][one]) for one in ("recall@50", "ndcg@50", "hr@50"))
        lines.append(f"| none | 0 | {recall} | | {ndcg} | {hr} | 1 | | | |")
        lines += [_row(condition) for condition in system["conditions"]]
    return "\n".join([*lines, ""])


def _row(condition: dict) -> str:
    values, change = condition["values"], condition["change"]
    cells = [
        title(condition),
        f"{condition['rate']:g}",
        mean_and_error(values["recall@50"]),
        mean_and_error(change["recall@50"], sign="+"),
        mean_and_error(values["ndcg@50"]),
        mean_and_error(values["hr@50"]),
        mean_and_error(values["overlap@50"]),
    ]
    if "exposure@50" in values:
        cells += [mean_and_error(values["exposure@50"]), mean_and_error(change["exposure@50"], sign="+")]
    else:
        cells += ["", ""]
    cells.append(mean_and_error(condition["change_minus_first"]["recall@50"], sign="+"))
    return "| " + " | ".join(cells) + " |"
