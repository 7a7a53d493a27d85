"""The rows of the table: what the seeds of a row gave, and the comparisons with other rows."""

from collections.abc import Mapping
from dataclasses import dataclass

from causerec_tf import comparison
from pipelines.comparison.plan import Plan, Row
from pipelines.comparison.results import Result


@dataclass(frozen=True)
class Summary:
    """A row of the plan with what is done of it: seed -> result.

    `comparisons` has what the row is tested against, the baseline and its control -> metric -> comparison
    with that system of the same recipe. No metrics for the system itself, where no seed is done of both, or
    where validation users are compared.
    """

    row: Row
    measure: str
    results: Mapping[int, Result]
    comparisons: Mapping[str, Mapping[str, comparison.Comparison]]

    @property
    def name(self) -> str:
        """`<system>[.<variant>]-<recipe>`."""
        return f"{self.row.system}-{self.row.recipe}"

    def values(self, metric: str) -> list[float]:
        """The metric, one value a seed."""
        return [result.record[self.measure][metric] for result in self.results.values()]


def summarise(plan: Plan, done: Mapping[str, Result]) -> list[Summary]:
    """Summarises every row of a plan, in its order, from name of a run -> its result."""
    found = {
        (row.system, row.recipe): {run.settings.seed: done[run.name] for run in row.runs if run.name in done}
        for row in plan.rows
    }
    summaries = []
    for row in plan.rows:
        ours = found[row.system, row.recipe]
        comparisons = {}
        baseline = plan.baselines[row.recipe]
        for system in {baseline, plan.controls.get(row.system, baseline)}:
            theirs = found.get((system, row.recipe), {})
            comparable = plan.measures_test_users and row.system != system and set(ours) & set(theirs)
            comparisons[system] = {
                metric: comparison.compare(_of_users(ours, metric), _of_users(theirs, metric))
                for metric in (plan.tested if comparable else ())
            }
        summaries.append(Summary(row, plan.measure, ours, comparisons))
    return summaries


def _of_users(results: Mapping[int, Result], metric: str) -> dict:
    """Seed -> the metric of each user."""
    return {seed: result.per_user[metric] for seed, result in results.items() if result.per_user is not None}
