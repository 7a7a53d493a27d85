"""The console command `causerec NAME --flag=...`: the scripts, from any folder."""

import ast
import importlib.util
import runpy
import sys
from pathlib import Path

SCRIPTS = {
    "schema": "pipelines.guess_schema",
    "prepare": "pipelines.prepare",
    "train": "pipelines.train",
    "evaluate": "pipelines.evaluate",
    "compare": "pipelines.compare",
    "tune": "pipelines.tune",
    "publish": "export.bundle",
    "update_index": "export.update_index",
    "histories": "pipelines.histories",
    "retrieve": "pipelines.retrieve",
    "serve": "export.serve",
    "vectors": "export.vectors",
}


def main() -> None:
    """Runs the script that is named; without a name, or for help, lists them."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("causerec NAME --flag=...   (`causerec NAME --help` lists the flags)\n")
        for known, module in SCRIPTS.items():
            print(f"  {known:14}{_first_line(module)}")
        return
    if name not in SCRIPTS:
        print(f"error: causerec has no {name!r}: wanted one of {', '.join(SCRIPTS)}.", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"causerec {name}", *sys.argv[2:]]
    runpy.run_module(SCRIPTS[name], run_name="__main__", alter_sys=False)


def _first_line(module: str) -> str:
    """What a script says it does, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


if __name__ == "__main__":
    main()
