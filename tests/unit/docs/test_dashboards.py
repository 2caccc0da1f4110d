"""docs/dashboards: JSON that Grafana imports, and panels that ask for series and labels that are written."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from tests.contract.test_metric_names import PROMISED
from tests.dashboards import DASHBOARDS, PANELS, Panel

from dspy_operator.api.names import OperatorMetric
from dspy_operator.telemetry import Telemetry

SCRAPED = frozenset({"namespace", "pod", "exported_namespace"})
UNITS = {"none", "short", "percent", "percentunit", "s", "reqps", "bytes", "currencyUSD"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MAX_PANELS = 18
TITLES = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)


def list_operator_labels() -> dict[str, set[str]]:
    """The labels of each of the operator's metrics."""
    collectors = Telemetry().registry._names_to_collectors
    return {str(name): set(collectors[str(name)]._labelnames) for name in OperatorMetric}  # type: ignore[attr-defined]  # of every family, not of Collector


LABELS: Mapping[str, set[str]] = {
    name: set(labels.split()) for name, (_, labels) in PROMISED.items()
} | list_operator_labels()


def get_labels(series: str) -> set[str]:
    """The labels of a series, which is a metric, or a part of a histogram."""
    if series in LABELS:
        return LABELS[series] | SCRAPED
    metric, _, part = series.rpartition("_")
    assert part in {"bucket", "count", "sum"}, series
    return LABELS[metric] | SCRAPED | ({"le"} if part == "bucket" else set())


def list_series(query: str) -> dict[str, set[str]]:
    """Each series that a query names, with the labels that it is selected by."""
    found: dict[str, set[str]] = {}
    for series, selector in re.findall(r"\b(dspy_\w+)(?:\{([^}]*)\})?", query):
        found.setdefault(series, set()).update(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector))
    return found


def list_grouped(query: str, word: str = "by|on") -> set[str]:
    """The labels that a query groups or joins by."""
    groups = re.findall(rf"\b(?:{word}) \(([^)]*)\)", query)
    return {label for group in groups for label in group.split(", ")}


@TITLES
def test_a_panel_asks_for_series_and_labels_that_are_written(panel: Panel) -> None:
    for query in panel.queries:
        series = list_series(query)
        assert series, query
        for name, labels in series.items():
            assert labels <= get_labels(name), query
        assert list_grouped(query) <= set.union(*(get_labels(name) for name in series)), query


@TITLES
def test_a_panel_names_its_lines_by_the_labels_that_tell_them_apart(panel: Panel) -> None:
    for target in panel.document["targets"]:
        kept = list_grouped(target["expr"], "by") - {"le", "program"}
        made = set(re.findall(r'count_values[^"]*"(\w+)"', target["expr"]))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == kept | made


@TITLES
def test_a_panel_says_what_it_shows_in_which_unit_and_from_where(panel: Panel) -> None:
    assert panel.document["description"].endswith(".")
    assert panel.document["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel.document["datasource"] == SOURCE
    for query in panel.queries:
        if "dspy_operator_" not in query:
            assert query.count("{") == query.count('namespace="$namespace",program="$deployment"')


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_can_be_imported_beside_others(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == f"dspy-{name.removesuffix('.json')}"
    assert "id" not in dashboard
    assert dashboard["schemaVersion"] == 41
    variables = dashboard["templating"]["list"]
    assert [variable["name"] for variable in variables] == ["datasource", "namespace", "deployment"]
    assert [variable["type"] for variable in variables] == ["datasource", "query", "query"]
    asking = [*variables[1:], *dashboard["annotations"]["list"]]
    assert [asked["datasource"] for asked in asking] == [SOURCE] * len(asking)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_ids_of_their_own_fill_the_grid_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len([panel for panel in panels if panel["type"] != "row"]) <= MAX_PANELS
    taken = [cell for panel in panels for cell in list_cells(panel["gridPos"])]
    assert len(set(taken)) == len(taken)
    assert len(taken) == 24 * (max(y for _, y in taken) + 1)


def list_cells(place: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Each (column, row) of the grid that a panel takes."""
    columns = range(place["x"], place["x"] + place["w"])
    return [(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])]


def test_titles_are_unique_so_that_a_page_can_name_a_panel() -> None:
    assert len({panel.title for panel in PANELS}) == len(PANELS) > 0
