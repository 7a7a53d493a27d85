"""The page of a comparison: Markdown with the protocol, the figures, the tests, the paper's figures."""

from collections.abc import Mapping, Sequence

from causerec_tf import comparison
from causerec_tf.data.sequences import Dataset
from pipelines.comparison.plan import MEASURES, PAPER_METRICS, TEST_WITHOUT_SEEN, VALIDATION, Paper, Plan
from pipelines.comparison.results import Result
from pipelines.comparison.summary import Summary

NAME = "comparison.md"

_TITLES = {"recall": "Recall", "ndcg": "NDCG", "hr": "HR", "mrr": "MRR"}
_MISSED = "▼"
# Says whose users a record measured; the page says it itself.
_COUNTS_OF_USERS = ("test_users", "test_without_seen_users", "validation_users")
# What a model makes of the same histories: recipes may differ in it.
_OF_THE_MODEL = ("max_history",)


def write(
    plan: Plan,
    dataset: Dataset,
    summaries: Sequence[Summary],
    *,
    command: str,
    picture: str | None,
) -> str:
    """The text of the page, with the command that makes it all, and the picture beside it if there is one."""
    pop = _pop(plan, summaries)
    parts = [
        _header(plan, dataset, summaries, command),
        _figures(plan, summaries, pop),
    ]
    if picture is not None and any(one.results for one in summaries):
        parts.append(f"![The rows beside each other]({picture})\n")
    if plan.measures_test_users:
        parts.append(_tests(plan, summaries))
        if plan.paper is not None:
            parts.append(_beside_paper(plan.paper, summaries, pop))
    return "\n".join(parts)


def _header(plan: Plan, dataset: Dataset, summaries: Sequence[Summary], command: str) -> str:
    lines = [
        f"# Comparison on {dataset.name}",
        "",
        "```",
        command,
        "```",
        "",
        f"Measured on {_users(plan, dataset, summaries)}. The dataset has {dataset.num_items:,} items and"
        f" {dataset.num_training_windows:,} training examples, split seed {dataset.info['split_seed']},"
        f" fingerprint `{dataset.fingerprint[:16]}`.",
    ]
    if plan.measure == VALIDATION:
        lines.append("The epoch was chosen on the same users: these figures are for choosing settings only.")
    lines += ["", "Protocol of every row:", "", *_protocol(plan, summaries), ""]
    lines.append("What the columns and tests mean: `docs/comparing.md`.")
    return "\n".join(lines) + "\n"


def _users(plan: Plan, dataset: Dataset, summaries: Sequence[Summary]) -> str:
    """Who is measured, and of which items."""
    counts = dataset.info["counts"]["evaluation_users"]
    if plan.measure != TEST_WITHOUT_SEEN:
        return f"{counts[plan.measure]:,} {MEASURES[plan.measure]}"
    # How many of them have another target is first known when they are measured.
    records = (result.record for one in summaries for result in one.results.values())
    measured = next((f"{one['protocol'][f'{plan.measure}_users']:,} of " for one in records), "")
    return (
        f"{measured}{counts['test']:,} {MEASURES[plan.measure]}: items of a user's history are neither"
        " recommended nor targets, and users without another target are left out"
    )


def _protocol(plan: Plan, summaries: Sequence[Summary]) -> list[str]:
    """A line for each part of the protocol; a part that is not the same for all says who has what."""
    # part -> value -> who has it; the keys of a dict, to name each once and in order
    who_has: dict[str, dict[str, dict[str, None]]] = {}
    for summary in summaries:
        for seed, result in summary.results.items():
            protocol = result.record["protocol"]
            if plan.measure == TEST_WITHOUT_SEEN:  # a record says it of `test`
                protocol = protocol | {"exclude_seen": True}
            for part, value in protocol.items():
                if part not in _COUNTS_OF_USERS:
                    who = summary.name if part in _OF_THE_MODEL else f"{summary.name}-{seed}"
                    who_has.setdefault(part, {}).setdefault(str(value), {})[who] = None
    if not who_has:
        return ["- not known before a run is done"]
    lines = []
    for part, values in who_has.items():
        title = "protocol" if part == "name" else part.replace("_", " ")
        if len(values) == 1:
            lines.append(f"- {title}: {next(iter(values))}")
        else:
            each = "; ".join(f"{value} in {', '.join(names)}" for value, names in values.items())
            if part not in _OF_THE_MODEL:
                title = f"**{title} differs, these rows cannot be compared**"
            lines.append(f"- {title}: {each}")
    return lines


def _figures(plan: Plan, summaries: Sequence[Summary], pop: Mapping[str, float]) -> str:
    rows = []
    if pop:
        rows.append(["pop", "", "", *(_number(pop[metric]) for metric in plan.metrics), ""])
    for summary in summaries:
        done, planned = len(summary.results), len(summary.row.runs)
        seeds = str(done) if done == planned else f"{done} of {planned}"
        if not done:
            cells = ["not run", *([""] * len(plan.metrics))]
        else:
            cells = [_mean(summary.values(metric)) for metric in plan.metrics]
            records = [result.record for result in summary.results.values()]
            cells.append(", ".join(f"{one['best_epoch']} of {one['epochs']}" for one in records))
        rows.append([f"`{summary.row.system}`", summary.row.recipe, seeds, *cells])
    heads = ["system", "recipe", "seeds", *(_title(metric) for metric in plan.metrics), "best epoch"]
    return (
        f"## {MEASURES[plan.measure].capitalize()}\n\n"
        "Means over seeds, ± the sample standard deviation over seeds where there are two or more.\n\n"
        + _table(heads, rows)
    )


def _tests(plan: Plan, summaries: Sequence[Summary]) -> str:
    heads = ["metric", "seeds", "difference", "relative"]
    heads += ["95 % interval", "p, bootstrap", "p, t over users", "p, t over seeds"]
    rows: list[list[str]] = []
    of_controls: list[list[str]] = []
    for summary in summaries:
        system, name = summary.row.system, [f"`{summary.row.system}`", summary.row.recipe]
        baseline = plan.baselines[summary.row.recipe]
        if system != baseline:
            rows += _test_rows(name, summary.comparisons[baseline])
        if system in plan.controls:
            control = plan.controls[system]
            of_controls += _test_rows([*name, f"`{control}`"], summary.comparisons[control])
    text = (
        f"## Against {_baselines(plan)} of the same recipe and seeds\n\n"
        f"The difference of the means; its interval and p-value by the paired bootstrap over users"
        f" ({comparison.RESAMPLES:,} draws, the users' differences averaged over the seeds); the two-sided"
        " p-values of the paired t-test over users, one for each seed, and over the means of the seeds. No"
        f" p-value is corrected for the number of rows.\n\n" + _table(["system", "recipe", *heads], rows)
    )
    if not of_controls:
        return text
    return f"{text}\n## Against controls\n\n" + _table(["system", "recipe", "control", *heads], of_controls)


def _baselines(plan: Plan) -> str:
    names = set(plan.baselines.values())
    if len(names) == 1:
        return f"`{names.pop()}`"
    return " and ".join(f"`{system}` ({recipe})" for recipe, system in plan.baselines.items())


def _test_rows(name: list[str], comparisons: Mapping[str, comparison.Comparison]) -> list[list[str]]:
    if not comparisons:
        return [[*name, "", "no seed done of both yet", *([""] * 6)]]
    return [[*name, _title(metric), *_test_cells(one)] for metric, one in comparisons.items()]


def _test_cells(one: comparison.Comparison) -> list[str]:
    relative = "" if one.relative is None else f"{one.relative:+.1%}"
    over_users = ("one user" if p is None else _p_value(p) for p in one.p_over_users)
    over_seeds = "one seed" if one.p_over_seeds is None else _p_value(one.p_over_seeds)
    return [
        ", ".join(str(seed) for seed in one.seeds),
        _signed(one.difference),
        relative,
        f"{_signed(one.interval.low)} to {_signed(one.interval.high)}",
        _p_value(one.interval.p_value),
        ", ".join(over_users),
        over_seeds,
    ]


def _beside_paper(paper: Paper, summaries: Sequence[Summary], pop: Mapping[str, float]) -> str:
    ours: list[tuple[str, str, Mapping[str, float]]] = [("pop", "", pop)] if pop else []
    for summary in summaries:
        if summary.results:
            means = {}
            for metric in PAPER_METRICS:
                values = summary.values(metric)
                means[metric] = sum(values) / len(values)
            ours.append((summary.row.system, summary.row.recipe, means))
    rows = []
    for system, recipe, figures in ours:
        if system in paper.figures:
            theirs = paper.figures[system]
            cells = [_against(figures[metric], theirs[metric]) for metric in PAPER_METRICS]
            rows.append([f"`{system}`", recipe, *cells])
            rows.append(["", "the paper's", *(_number(theirs[metric]) for metric in PAPER_METRICS)])
    left = [f"`{system}`" for system in paper.figures if system not in {name for name, _, _ in ours}]
    return (
        "## Beside the paper\n\n"
        f"{paper.source}. NDCG is `ndcg_target_order`, which is not the NDCG of the tables above. {_MISSED}"
        f" marks a figure below the paper's.{' ' + paper.note if paper.note else ''}\n\n"
        + _table(
            ["system", "recipe", *(_title(metric.replace("_target_order", "")) for metric in PAPER_METRICS)],
            rows,
        )
        + (f"\nIn the paper, without a figure here: {', '.join(left)}.\n" if left else "")
    )


def _pop(plan: Plan, summaries: Sequence[Summary]) -> Mapping[str, float]:
    """POP's figures, the same in every record of one dataset and protocol; empty if there are none."""
    found: list[Result] = [result for one in summaries for result in one.results.values()]
    record = next((one.record for one in found if one.per_user is not None), None)
    if record is None:
        return {}
    # Records of earlier versions have no `baselines`.
    return record["pop"] if plan.measure == "test" else record["baselines"]["pop"][plan.measure]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _title(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{_TITLES.get(name, name)}@{k}"


def _number(value: float) -> str:
    """Four decimals without the zero before the point, as the literature prints them."""
    return f"{value:.4f}".replace("0.", ".", 1)


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1)


def _mean(values: Sequence[float]) -> str:
    spread = comparison.spread(values)
    mean = _number(sum(values) / len(values))
    return mean if spread is None else f"{mean} ± {_number(spread)}"


def _against(value: float, wanted: float) -> str:
    """A figure, marked if it is below the one wanted at the four decimals that are printed."""
    return f"{_number(value)} {_MISSED}" if round(value, 4) < wanted else _number(value)


def _p_value(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)
