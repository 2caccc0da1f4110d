"""docs/drills.md and docs/alerts.yaml name each other's alerts, tests that exist, and series that are written."""

import re
from pathlib import Path

import yaml
from tests.dashboards import PANELS

from dspy_operator.api import names
from dspy_server import contract

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/drills.md").read_text()
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "docs/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
OWN = {"DspyOverload", "DspyOperatorErrors", "DspyPrometheusLost", "DspyOperatorGone"}
"""Alerts that no drill is about."""


def test_the_page_names_the_alerts_that_there_are() -> None:
    assert set(re.findall(r"`(Dspy\w+)`", PAGE)) | OWN == {rule["alert"] for rule in RULES}


def test_each_drill_has_a_test_and_each_test_exists() -> None:
    drills = set(re.findall(r"^\| (D\d+) \|", PAGE, re.MULTILINE))
    tested = dict(re.findall(r"^- (D\d+): (.*)$", PAGE, re.MULTILINE))
    assert drills == set(tested) == {f"D{number}" for number in range(1, 12)}
    for files in tested.values():
        for file in re.findall(r"`([^`]+)`", files):
            assert "def test_" in (ROOT / file).read_text(), file


def test_each_drill_names_a_panel_that_there_is() -> None:
    rows = re.findall(r"^\| D\d+ \|.*", PAGE, re.MULTILINE)
    named = [row.split(" | ")[4].strip("`") for row in rows]
    assert len(named) == 12
    assert set(named) <= {panel.title for panel in PANELS}


def test_each_alert_asks_for_series_that_are_written() -> None:
    written = {str(metric) for metric in (*names.Metric, *names.OperatorMetric, *contract.Metric)}
    for rule in RULES:
        asked = {name.removesuffix("_count") for name in re.findall(r"dspy_\w+", rule["expr"])}
        assert asked, rule["alert"]
        assert asked <= written, rule["alert"]
