"""Fills the tables of docs/performance.md with what benchmarks/results holds.

python benchmarks/tables.py

A table stands between `<!-- training.json: ratios -->` and `<!-- end -->`. After the file's name comes what
the table shows: `ratios`, `products`, `rows`, `recall`, or the unit of the measures that are wanted.
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
    if shown == "ratios":
        return _source(result) + _spreads(result["spread"].items(), "ratio")
    if shown == "products":
        rows = [[one["what"], one["shape"], _number(one["gflops"])] for one in result["details"]["products"]]
        return _markdown(["product", "shape", "GFLOP/s"], rows)
    if shown == "rows":
        rows = [[key, _number(value)] for key, value in _rows(result).items()]
        return _markdown(["catalogue", "distinct rows a step of base touches"], rows)
    if shown == "recall":
        return _markdown(["system and setting", "recall", "ms a query", "min", "max"], _recall_rows(result))
    chosen = ((name, value) for name, value in result["measures"].items() if value["unit"] == shown)
    return _spreads(chosen, shown)


def _rows(result: dict) -> dict:
    rows = result["details"]["distinct_rows_a_step_of_base"]
    return rows if isinstance(rows, dict) else {result["dataset"]["name"]: rows}


def _recall_rows(result: dict) -> list[list[str]]:
    keys = ("median", "min", "max")
    return [
        [f"`{name}`", f"{recall:.4f}", *(_number(result["measures"][name][key]) for key in keys)]
        for name, recall in result["details"]["recall"].items()
    ]


def _source(result: dict) -> str:
    """The command, when and where; the other tables of the file are of the same run."""
    machine, dataset = result["machine"], result["dataset"]
    where = f"{machine['cores']} cores of {machine['cpu']}, TensorFlow {machine['versions']['tensorflow']}"
    what = f", dataset `{dataset['name']}`" if dataset else ""
    return f"`{result['command']}`{what}, {result['measured_at'][:10]}, {where}\n\n"


def _spreads(named: Iterable[tuple[str, dict]], unit: str) -> str:
    keys = ("median", "min", "max")
    rows = [[f"`{name}`", *(_number(spread[key]) for key in keys)] for name, spread in named]
    return _markdown([unit, *keys], rows)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit("error: no arguments; the docstring says what it does.")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
    print(f"filled {PAGE}")
