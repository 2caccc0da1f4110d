"""The routing table, `routes.json` in ConfigMap `<name>-routes`: the one truth about who gets which share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.api.names import Track
from dspy_operator.manifests.owner import CONFIG_MAP, Manifest, Owner, build_child

MAX_INTEGER: Final = 2**53
"""What a stamp or a generation may be at most: JSON numbers are exact up to here."""


@dataclass(frozen=True)
class Route:
    """One revision's share: `weight` in percent, `path` where the pods read its program."""

    revision: str
    workload: str
    module: str
    sha256: str
    track: Track
    weight: int
    path: str


@dataclass(frozen=True)
class Table:
    """The whole table of one DSPyDeployment; servers ignore one whose generation is not newer."""

    generation: int
    program: str
    user_header: str
    override_header: str
    routes: tuple[Route, ...]


@dataclass(frozen=True)
class Stamp:
    """Which record the table carries out, and which operator wrote it."""

    rollout: str = ""
    number: int = 0
    epoch: int = 0


def build_routes(owner: Owner, table: Table, stamp: Stamp, canary: str = "") -> Manifest:
    """The ConfigMap with the table; `canary` is the revision on trial, among those of other pods than stable's."""
    annotations = build_stamp(stamp) | {names.ANNOTATION_REVISION: canary}
    config_map = build_child(owner, CONFIG_MAP, names.routes_name(owner.name), annotations=annotations)
    return config_map | {"data": {names.ROUTES_KEY: render_table(table)}}


def build_stamp(stamp: Stamp) -> dict[str, str]:
    """The annotations of whatever carries out a record."""
    return {
        names.ANNOTATION_RECORD: f"{stamp.rollout}/{stamp.number}",
        names.ANNOTATION_EPOCH: str(stamp.epoch),
    }


def find_canary(config_map: Mapping[str, Any]) -> str | None:
    """The revision on trial that the ConfigMap names, empty for none; None: written before it named any."""
    annotations = config_map.get("metadata", {}).get("annotations") or {}
    found = annotations.get(names.ANNOTATION_REVISION)
    return found if isinstance(found, str) else None


def render_table(table: Table) -> str:
    """The bytes of `routes.json`: the same table gives the same bytes."""
    content = {
        "generation": table.generation,
        "program": table.program,
        "userHeader": table.user_header,
        "overrideHeader": table.override_header,
        "routes": [_build_route(route) for route in table.routes],
    }
    return json.dumps(content, separators=(",", ":"))


def parse_routes(config_map: Mapping[str, Any] | None) -> Table | None:
    """The table of a live ConfigMap; None if it is missing or is no table (somebody edited it)."""
    text = ((config_map or {}).get("data") or {}).get(names.ROUTES_KEY)
    if not isinstance(text, str):
        return None
    try:
        return _read_table(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def parse_stamp(config_map: Mapping[str, Any]) -> Stamp:
    """The stamp of a live table or slot; what is no stamp counts as none, so a forged one stops nobody."""
    annotations = config_map.get("metadata", {}).get("annotations") or {}
    rollout, _, number = str(annotations.get(names.ANNOTATION_RECORD, "")).rpartition("/")
    return Stamp(rollout, _read_stamp(number), _read_stamp(str(annotations.get(names.ANNOTATION_EPOCH, ""))))


def _build_route(route: Route) -> dict[str, Any]:
    return {
        "revision": route.revision,
        "workload": route.workload,
        "module": route.module,
        "sha256": route.sha256,
        "track": route.track.value,
        "weight": route.weight,
        "path": route.path,
    }


def _read_table(content: Mapping[str, Any]) -> Table:
    return Table(
        generation=_read_integer(content["generation"]),
        program=_read_text(content["program"]),
        user_header=_read_text(content["userHeader"]),
        override_header=_read_text(content["overrideHeader"]),
        routes=tuple(_read_route(route) for route in content["routes"]),
    )


def _read_route(content: Mapping[str, Any]) -> Route:
    return Route(
        revision=_read_text(content["revision"]),
        workload=_read_text(content["workload"]),
        module=_read_text(content["module"]),
        sha256=_read_text(content["sha256"]),
        track=Track(content["track"]),
        weight=_read_integer(content["weight"]),
        path=_read_text(content["path"]),
    )


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _read_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise TypeError("not a whole number")
    return value


def _read_stamp(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0  # noqa: PLR2004  < 2^53
