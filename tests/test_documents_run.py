"""The blocks of Python in the documents run from top to bottom, and say what they say."""

import json
import pathlib
import re

import polars as pl
import pytest

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def blocks_of(name):
    return re.findall(r"^```python\n(.*?)\n```", (DOCS / name).read_text(encoding="utf-8"), re.M | re.S)


def run_blocks(name, place, monkeypatch):
    """The names that a page's blocks define, run in an empty directory."""
    monkeypatch.chdir(place)
    blocks = blocks_of(name)
    assert len(blocks) > 3
    scope: dict = {"__name__": "__main__"}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{name}, block {number}", "exec"), scope)
    return scope


def test_the_notebooks_page(tmp_path, monkeypatch):
    scope = run_blocks("notebook.md", tmp_path, monkeypatch)
    run, cr = scope["run"], scope["cr"]
    assert scope["dataset"].num_items == 100
    figures = run.evaluate(exclude_seen=True)
    by_system = dict(zip(figures["system"], figures["recall@20"], strict=True))
    # A reader keeps to a shelf of 20 of the 100 books, so POP finds a fifth of what a perfect list does.
    assert by_system["causerec_item_youtube_dnn"] > 2 * by_system["pop"]
    top = run.recommend({"anna": [3, 5, 7], 8: [201, 202]}, k=3)
    assert top.columns == ["user_id", "rank", "item_id", "name", "score"]
    assert top["user_id"].to_list() == ["anna"] * 3 + ["8"] * 3
    assert all(name.startswith("shelf 0") for name in top.filter(pl.col("user_id") == "anna")["name"])
    similar = run.similar_items([100], k=3)
    assert all(name.startswith("shelf 1") for name in similar["name"])
    again = cr.load_run("runs/books").recommend([[3, 5, 7]], k=3)
    assert again["item_id"].to_list() == top["item_id"][:3].to_list()
    # The bundle answers as the run does.
    served = scope["retriever"].recommend([[3, 5, 7]], k=3)[0].items
    assert served == again["item_id"].to_list()


def test_the_rendered_notebook_is_of_this_page():
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in cells] == blocks_of("notebook.md")
    assert sum(bool(cell["outputs"]) for cell in cells) >= 6


def test_the_page_of_ones_own_parts(tmp_path, monkeypatch):
    scope = run_blocks("extending.md", tmp_path, monkeypatch)
    cr, compose = scope["cr"], scope["compose"]
    with pytest.raises(cr.InputError, match="A model that was composed in Python is handed in"):
        cr.load_run("runs/last_items")
    run = cr.load_run("runs/last_items", model=compose(scope["LastItemsTower"](32)))
    figures = run.evaluate()
    assert figures["system"].to_list() == ["composed", "pop"]
    assert figures["recall@50"][0] > 1.5 * figures["recall@50"][1]
    import export

    export.publish(run, "bundles/last_items")
    history = run.dataset.item_ids()[:3]
    served = export.Retriever.open("bundles/last_items").recommend([history], k=5)[0].items
    assert served == run.recommend([history], k=5)["item_id"].to_list()
