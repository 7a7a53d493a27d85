"""The dashboard for Grafana names only what /metrics has."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from export.service.prometheus import Metrics

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "export" / "serving" / "grafana.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
# Labels that Prometheus gives to what it scrapes.
ADDED = {"job", "instance"}


@pytest.fixture(scope="module", name="labels_of")
def fixture_labels_of():
    """Name of a series as /metrics has it -> the names of its labels."""
    metrics = Metrics(10)
    for name in ("requests", "answers", "request_seconds", "plans", "reranker"):
        metric = getattr(metrics, name)
        metric.labels(*metric._labelnames)
    return {
        sample.name: {label for one in family.samples if one.name == sample.name for label in one.labels}
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def series_in(expression):
    return re.findall(r"\b(causerec_\w+|process_\w+)(?:\{([^}]*)\})?", expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_series_and_labels_that_are_there(expression, labels_of):
    found = series_in(expression)
    assert found
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    for name, matchers in found:
        assert name in labels_of, name
        matched = set(re.findall(r'(\w+)=~?"', matchers))
        assert matched <= labels_of[name] | ADDED, (name, matched)
        assert 'job=~"$job"' in matchers
        assert grouped <= labels_of[name] | ADDED, (name, grouped)
        is_counter = name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert is_counter == bool(re.search(rf"(rate|increase)\({name}\b", expression)), name
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("panel", PANELS, ids=[one["title"] for one in PANELS])
def test_legends_name_labels_that_are_left(panel):
    for target in panel["targets"]:
        wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        groups = re.findall(r"by \(([^)]*)\)", target["expr"])
        assert wanted == {label for group in groups for label in group.split(", ")} - {"le"}


def test_every_metric_of_ours_is_shown(labels_of):
    shown = {name for expression in EXPRESSIONS for name, _ in series_in(expression)}
    ours = {name for name in labels_of if name.startswith("causerec_") and not name.endswith("_created")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}
    not_shown = families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert not_shown == {"causerec_window_histories"}


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells
    variables = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == variables
