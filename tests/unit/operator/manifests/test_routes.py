"""The routing table on the wire and back, and what is no table."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_operator.api import names
from dspy_operator.api.names import Track
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.routes import (
    MAX_INTEGER,
    Route,
    Stamp,
    Table,
    build_routes,
    parse_routes,
    parse_stamp,
    render_table,
)

OWNER = Owner("ml", "triage", "uid-1")
STABLE = Route("3f9a12c4d5", "0a1b2c3d", "a:B", "0" * 64, Track.STABLE, 90, names.slot_path(0))
CANARY = Route("81c0ab34ef", "0a1b2c3d", "a:B", "1" * 64, Track.CANARY, 10, names.slot_path(1))
TABLE = Table(12, "triage", "X-User-Id", "", (STABLE, CANARY))
STAMP = Stamp("triage-81c0ab34ef-1", 14, 3)


def test_the_table_is_written_as_the_contract_says() -> None:
    assert json.loads(render_table(TABLE)) == {
        "generation": 12,
        "program": "triage",
        "userHeader": "X-User-Id",
        "overrideHeader": "",
        "routes": [
            {
                "revision": "3f9a12c4d5",
                "workload": "0a1b2c3d",
                "module": "a:B",
                "sha256": "0" * 64,
                "track": "stable",
                "weight": 90,
                "path": "/etc/dspy/programs/0/program.json",
            },
            {
                "revision": "81c0ab34ef",
                "workload": "0a1b2c3d",
                "module": "a:B",
                "sha256": "1" * 64,
                "track": "canary",
                "weight": 10,
                "path": "/etc/dspy/programs/1/program.json",
            },
        ],
    }


def test_the_config_map_carries_the_record_and_the_epoch() -> None:
    config_map = build_routes(OWNER, TABLE, STAMP)
    assert config_map["metadata"]["name"] == "triage-routes"
    assert config_map["metadata"]["annotations"] == {
        "dspy-operator.io/record": "triage-81c0ab34ef-1/14",
        "dspy-operator.io/epoch": "3",
        "dspy-operator.io/revision": "",
    }
    assert (parse_routes(config_map), parse_stamp(config_map)) == (TABLE, STAMP)


TEXT = st.text(max_size=20)
NUMBER = st.integers(0, MAX_INTEGER)
ROUTES = st.builds(Route, TEXT, TEXT, TEXT, TEXT, st.sampled_from(Track), st.integers(0, 100), TEXT)


@given(st.builds(Table, NUMBER, TEXT, TEXT, TEXT, st.lists(ROUTES, max_size=3).map(tuple)))
def test_what_is_written_is_read_again(table: Table) -> None:
    assert parse_routes(build_routes(OWNER, table, STAMP)) == table


def edited(**fields: Any) -> dict[str, Any]:
    content = json.loads(render_table(TABLE)) | fields
    return {"data": {"routes.json": json.dumps({k: v for k, v in content.items() if v is not ...})}}


@pytest.mark.parametrize(
    "config_map",
    [
        None,
        {},
        {"data": None},
        {"data": {}},
        {"data": {"routes.json": ""}},
        {"data": {"routes.json": "{"}},
        {"data": {"routes.json": "[]"}},
        {"data": {"routes.json": "[" * 100_000}},
        edited(generation="12"),
        edited(generation=True),
        edited(generation=-1),
        edited(generation=2**60),
        edited(generation=...),
        edited(program=None),
        edited(routes=None),
        edited(routes=[{}]),
        edited(routes=[{**json.loads(render_table(TABLE))["routes"][0], "track": "other"}]),
    ],
)
def test_what_somebody_broke_is_no_table(config_map: dict[str, Any] | None) -> None:
    assert parse_routes(config_map) is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_forged_stamp_is_read_without_an_accident(record: str, epoch: str) -> None:
    annotations = {names.ANNOTATION_RECORD: record, names.ANNOTATION_EPOCH: epoch}
    stamp = parse_stamp({"metadata": {"annotations": annotations}})
    assert 0 <= stamp.epoch <= MAX_INTEGER
    assert 0 <= stamp.number <= MAX_INTEGER


@pytest.mark.parametrize("epoch", ["", "-1", "1e9", "9" * 16, "٣", "0x1"])
def test_what_is_no_epoch_counts_as_none(epoch: str) -> None:
    assert parse_stamp({"metadata": {"annotations": {names.ANNOTATION_EPOCH: epoch}}}).epoch == 0


def test_an_object_without_annotations_has_no_stamp() -> None:
    assert parse_stamp({"metadata": {}}) == Stamp()


def test_a_weight_is_not_taken_for_another() -> None:
    changed = replace(TABLE, routes=(replace(STABLE, weight=100), replace(CANARY, weight=0)))
    assert parse_routes(build_routes(OWNER, changed, STAMP)) != TABLE
