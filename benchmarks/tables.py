"""Fills the tables of docs/performance.md with what benchmarks/results holds.

python benchmarks/tables.py

A table stands between `<!-- training.json: ratios -->` and `<!-- end -->`. After the file's name comes what
the table shows: `ratios`, `ratios without random category` (names that end so are left out), `measures` (all
of them), or the unit of the measures that are wanted.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"

_TABLE = re.compile(r"(<!-- (\w+\.json): ([\w/ ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, results: Path) -> str:
    """The page with every table made anew.

    Args:
      page: Markdown with marked places.
      results: directory of the JSON files; a table whose file is missing says how it is made.
    """

    def table(match: re.Match) -> str:
        start, name, shown, end = match.groups()
        path = results / name
        if not path.is_file():
            return f"{start}not measured yet: `python benchmarks/run.py --only={path.stem}`\n{end}"
        return start + _table(json.loads(path.read_text(encoding="utf-8")), shown) + end

    return _TABLE.sub(table, page)


def _table(result: dict, shown: str) -> str:
    what, *without = shown.split(" without ")
    if what == "ratios":
        endings = tuple(f"_{word}" for word in " ".join(without).split())
        ratios = (
            (f"`{name}`", spread) for name, spread in result["spread"].items() if not name.endswith(endings)
        )
        return _source(result) + _spreads(ratios, "ratio")
    if shown == "measures":
        return _spreads(
            ((f"`{name}`, {one['unit']}", one) for name, one in result["measures"].items()), "measure"
        )
    chosen = ((f"`{name}`", value) for name, value in result["measures"].items() if value["unit"] == shown)
    return _spreads(chosen, shown)


def _source(result: dict) -> str:
    """The command, when and where; the other tables of the file are of the same run."""
    machine = result["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}"
    return f"`{result['command']}`, {result['measured_at'][:10]}, {where}\n\n"


def _spreads(named: Iterable[tuple[str, dict]], what: str) -> str:
    lines = [f"| {what} | median (min-max) |", "| --- | ---: |"]
    for name, spread in named:
        least, most = _number(spread["min"]), _number(spread["max"])
        between = "" if least == most else f" ({least}-{most})"
        lines.append(f"| {name} | {_number(spread['median'])}{between} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("error: no arguments; the docstring says what it does.")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    print(f"filled {PAGE}")
