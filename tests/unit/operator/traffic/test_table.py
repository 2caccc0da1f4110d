"""A split as a routing table and back: what a pod reads is what was decided, and an edit is seen."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_operator.api import names
from dspy_operator.manifests.owner import Owner
from dspy_operator.manifests.routes import MAX_INTEGER, Stamp
from dspy_operator.rollout.model import Program, Share, Split
from dspy_operator.traffic.table import Headers, build_table, read_headers, read_table

OWNER = Owner("ml", "triage", "uid-1")
STAMP = Stamp("triage-b-1", 7, 3)
HEADERS = Headers("X-User-Id", "")


def build_program(letter: str, workload: str = "w1") -> Program:
    return Program(f"{letter}-{workload}", workload, letter * 64, "triage:Triage")


STABLE = Share(build_program("a"), 0, 90)
CANARY = Share(build_program("b"), 1, 10)
ALONE = Share(build_program("a"), 0, 100)
LEAVING = Share(build_program("c", "w0"), 2, 0)


def build(split: Split, headers: Headers = HEADERS) -> dict[str, Any]:
    return build_table(OWNER, split, 12, headers, STAMP)


def edit(config_map: dict[str, Any], **change: Any) -> dict[str, Any]:
    content = json.loads(config_map["data"][names.ROUTES_KEY]) | change
    return config_map | {"data": {names.ROUTES_KEY: json.dumps(content, separators=(",", ":"))}}


def edit_route(config_map: dict[str, Any], number: int, **change: Any) -> dict[str, Any]:
    routes = json.loads(config_map["data"][names.ROUTES_KEY])["routes"]
    routes[number] |= change
    return edit(config_map, routes=routes)


@pytest.mark.parametrize(
    "split",
    [Split(ALONE), Split(STABLE, CANARY), Split(ALONE, None, (LEAVING,)), Split(STABLE, CANARY, (LEAVING,))],
)
def test_what_was_written_is_read_back(split: Split) -> None:
    table = read_table(build(split), OWNER, HEADERS)
    assert table is not None
    assert table.split == split
    assert (table.generation, table.rollout, table.number, table.epoch) == (12, "triage-b-1", 7, 3)
    assert table.intact


@settings(deadline=None)
@given(weight=st.integers(0, 100), slots=st.permutations([0, 1, 2]), user=st.text(max_size=8))
def test_every_weight_slot_and_header_survives(weight: int, slots: list[int], user: str) -> None:
    split = Split(
        Share(build_program("a"), slots[0], 100 - weight), Share(build_program("b"), slots[1], weight)
    )
    config_map = build(split, Headers(user, "X-Override"))
    table = read_table(config_map, OWNER, None)
    assert table is not None
    assert table.split == split
    assert table.intact
    assert read_headers(config_map) == Headers(user, "X-Override")


def test_pods_read_what_the_contract_says() -> None:
    content = json.loads(build(Split(STABLE, CANARY))["data"]["routes.json"])
    assert content == {
        "generation": 12,
        "program": "triage",
        "userHeader": "X-User-Id",
        "overrideHeader": "",
        "routes": [
            {
                "revision": "a-w1",
                "workload": "w1",
                "module": "triage:Triage",
                "sha256": "a" * 64,
                "track": "stable",
                "weight": 90,
                "path": "/etc/dspy/programs/0/program.json",
            },
            {
                "revision": "b-w1",
                "workload": "w1",
                "module": "triage:Triage",
                "sha256": "b" * 64,
                "track": "canary",
                "weight": 10,
                "path": "/etc/dspy/programs/1/program.json",
            },
        ],
    }


def test_an_edited_weight_is_another_split() -> None:
    table = read_table(edit_route(build(Split(STABLE, CANARY)), 1, weight=99), OWNER, HEADERS)
    assert table is not None
    assert table.split.weight == 99


def test_an_edit_beside_the_split_is_seen() -> None:
    spaced = build(Split(ALONE))
    spaced = spaced | {"data": {names.ROUTES_KEY: spaced["data"][names.ROUTES_KEY] + " "}}
    for edited in (edit(build(Split(ALONE)), program="other"), edit(build(Split(ALONE)), more=1), spaced):
        table = read_table(edited, OWNER, HEADERS)
        assert table is not None
        assert not table.intact


def test_a_new_header_in_the_spec_makes_the_table_old_unless_an_attempt_is_open() -> None:
    config_map = build(Split(ALONE), HEADERS)
    changed = read_table(config_map, OWNER, Headers("X-Other", ""))
    frozen = read_table(config_map, OWNER, None)
    assert changed is not None
    assert not changed.intact
    assert frozen is not None
    assert frozen.intact


@pytest.mark.parametrize(
    "config_map",
    [
        None,
        {},
        {"data": None},
        {"data": {names.ROUTES_KEY: "no json"}},
        {"data": {names.ROUTES_KEY: "[]"}},
        {"data": {names.ROUTES_KEY: "[" * 100_000}},
        edit(build(Split(ALONE)), generation=-1),
        edit(build(Split(ALONE)), generation=True),
        edit(build(Split(ALONE)), generation=MAX_INTEGER + 1),
        edit(build(Split(ALONE)), routes=[]),
        edit(build(Split(ALONE)), routes=None),
        edit_route(build(Split(ALONE)), 0, path="/etc/passwd"),
        edit_route(build(Split(ALONE)), 0, track="both"),
        edit_route(build(Split(STABLE, CANARY)), 1, track="stable"),
        edit_route(build(Split(STABLE, CANARY)), 0, track="canary"),
        edit_route(build(Split(ALONE)), 0, weight="100"),
    ],
)
def test_what_is_no_table_counts_as_none(config_map: dict[str, Any] | None) -> None:
    assert read_table(config_map, OWNER, HEADERS) is None


@pytest.mark.parametrize("stamp", ["", "x", "1e9", "-1", "9" * 30, "²"])
def test_a_forged_stamp_counts_as_none(stamp: str) -> None:
    config_map = build(Split(ALONE))
    annotations = {names.ANNOTATION_EPOCH: stamp, names.ANNOTATION_RECORD: f"triage-b-1/{stamp}"}
    config_map["metadata"] = config_map["metadata"] | {"annotations": annotations}
    table = read_table(config_map, OWNER, HEADERS)
    assert table is not None
    assert (table.epoch, table.number) == (0, 0)
