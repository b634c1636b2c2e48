"""The dashboard, as a file: Grafana can show each panel, of metrics that there are."""

import json
from collections import Counter
from itertools import product

import pytest

from hack.manifests import COMPONENTS
from tests.install.metrics import SUFFIXES, exposed, used

DASHBOARD = json.loads((COMPONENTS / "dashboard" / "rpcregistry.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
NOT_SHOWN = {
    "process_virtual_memory_bytes",
    "process_start_time_seconds",
    "python_info",
    "rpcregistry_kube_request_seconds",  # of a histogram, the buckets
}


def expressions() -> list[str]:
    """All that it asks Prometheus."""
    annotations = [found["expr"] for found in DASHBOARD["annotations"]["list"]]
    return [target["expr"] for panel in PANELS for target in panel["targets"]] + annotations


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]
    for source in (panel, *panel["targets"]):
        assert source["datasource"]["uid"] == "${datasource}"


def test_what_it_asks_for_is_of_the_chosen_namespaces_and_there():
    for expression in expressions():
        assert used(expression) <= exposed(), expression
        selectors = expression.count('namespace=~"$namespace", job=~"$job"')
        names = sum(expression.count(name) for name in {*used(expression), "up{"})
        assert selectors, expression
        assert selectors <= names, expression


def test_every_metric_is_shown_or_left_out_by_intent():
    shown = set().union(*map(used, expressions()))
    histograms = {name.removesuffix(end) for name in shown for end in SUFFIXES if name.endswith(end)}
    whole = {name for name in exposed() if not name.endswith(SUFFIXES)}
    assert whole - shown - histograms - NOT_SHOWN == set()


def test_panels_neither_overlap_nor_leave_the_grid():
    cells = Counter(
        cell
        for panel in DASHBOARD["panels"]
        for grid in [panel["gridPos"]]
        for cell in product(range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"]))
    )
    assert max(cells.values()) == 1
    assert {x for x, _ in cells} == set(range(24))
    assert max(Counter(panel["id"] for panel in DASHBOARD["panels"]).values()) == 1


def test_it_can_be_imported_anywhere():
    assert DASHBOARD["uid"] == "rpcregistry"
    assert "id" not in DASHBOARD
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == [
        "datasource",
        "namespace",
        "job",
    ]
