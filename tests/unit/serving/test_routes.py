import json
from typing import Any

import pytest

from dspy_server.contract import Track
from dspy_server.routes import Table, TableError, parse_table

ROOT = "/etc/dspy/programs"


def build_route(**changes: Any) -> dict[str, Any]:
    return {
        "revision": "3f9a12c4d5",
        "workload": "aaaaaaaa",
        "module": "support_triage:Triage",
        "sha256": "a" * 64,
        "track": "stable",
        "weight": 100,
        "path": "/etc/dspy/programs/0/program.json",
        **changes,
    }


def parse(*routes: dict[str, Any], **changes: Any) -> Table:
    value = {"generation": 12, "program": "support-triage", "routes": list(routes), **changes}
    return parse_table(json.dumps(value).encode(), ROOT)


STABLE = build_route(weight=90)
CANARY = build_route(
    revision="81c0aa55ee", track="canary", weight=10, path="/etc/dspy/programs/1/program.json"
)


def test_a_valid_table_is_read() -> None:
    table = parse(CANARY, STABLE, userHeader="X-User-Id", overrideHeader="X-Revision")
    assert (table.generation, table.program, table.user_header) == (12, "support-triage", "X-User-Id")
    assert [route.track for route in table.list_own("aaaaaaaa")] == [Track.STABLE, Track.CANARY]


def test_a_pod_owns_the_routes_of_its_workload_only() -> None:
    table = parse(STABLE, {**CANARY, "workload": "bbbbbbbb"})
    assert [route.revision for route in table.list_own("bbbbbbbb")] == ["81c0aa55ee"]
    assert table.list_own("cccccccc") == ()


@pytest.mark.parametrize(
    "path", ["s3://models/" + "p" * 300, f"oci://r/p@sha256:{'a' * 64}", "file:///mnt/p"]
)
def test_a_program_may_lie_elsewhere(path: str) -> None:
    assert parse(STABLE, {**CANARY, "path": path}).routes[1].path == path


@pytest.mark.parametrize(
    ("routes", "changes", "message"),
    [
        ([STABLE, CANARY], {"extra": 1}, "unknown key 'extra'"),
        ([STABLE, {**CANARY, "region": "eu"}], {}, r"routes\[1\]: unknown key 'region'"),
        ([{key: value for key, value in STABLE.items() if key != "sha256"}], {}, "sha256 is missing"),
        ([STABLE], {}, "sum to 90"),
        ([STABLE, {**CANARY, "weight": 11}], {}, "sum to 101"),
        ([STABLE, {**CANARY, "weight": 10.0}], {}, "weight: not an integer"),
        ([STABLE, {**CANARY, "weight": True}], {}, "weight: not an integer"),
        ([{**STABLE, "weight": 110}, {**CANARY, "weight": -10}], {}, "weight: not an integer"),
        ([CANARY], {}, "exactly one must be stable"),
        ([STABLE, {**CANARY, "track": "stable"}], {}, "exactly one must be stable"),
        ([STABLE, {**CANARY, "track": "preview"}], {}, "track: not one of"),
        ([STABLE, {**CANARY, "revision": "3f9a12c4d5"}], {}, "occurs twice"),
        ([STABLE, {**CANARY, "sha256": "A" * 64}], {}, "sha256: not"),
        ([STABLE, {**CANARY, "module": "os.system"}], {}, "module: not"),
        ([STABLE, {**CANARY, "path": "/etc/passwd"}], {}, "path: not a file below"),
        ([STABLE, {**CANARY, "path": "/etc/dspy/programs/../../passwd"}], {}, "path: not a file below"),
        ([STABLE, {**CANARY, "path": "/etc/dspy/programs"}], {}, "path: not a file below"),
        ([STABLE, {**CANARY, "path": "http://h/p.json"}], {}, r"routes\[1\]\.path: not one of https://"),
        ([STABLE, {**CANARY, "path": "https://user:x@h/p.json"}], {}, "no user or password"),
        ([STABLE, CANARY], {"generation": "12"}, "generation: not an integer"),
        ([STABLE, CANARY], {"generation": -1}, "generation: not an integer"),
        ([STABLE, CANARY], {"program": 3}, "program: not a short string"),
        (["x"], {}, r"routes\[0\]: not an object"),
        ([], {}, "exactly one must be stable"),
    ],
)
def test_a_wrong_table_is_refused_as_a_whole(
    routes: list[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TableError, match=message):
        parse(*routes, **changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"generation": 1}',
        b'{"routes": 3, "generation": 1, "program": "p"}',
    ],
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(TableError):
        parse_table(data, ROOT)
