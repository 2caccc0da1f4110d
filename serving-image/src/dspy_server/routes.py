"""The routing table: bytes of `routes.json` -> validated `Table`, and which of its routes are this pod's.

Pure. Anything unknown or contradictory is refused as a whole; the table in force then stays.
"""

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from dspy_server.contract import ROUTE_FIELDS, TABLE_FIELDS, Track
from dspy_server.errors import ServerError
from dspy_server.uris import MAX_CHARS, UriError, is_uri, parse_uri

FULL_WEIGHT: Final = 100
MAX_TABLE_BYTES: Final = 1 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REVISION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODULE: Final = re.compile(r"[\w.]+:\w+")


class TableError(ServerError):
    """The table is not valid; the message says why."""


@dataclass(frozen=True)
class Route:
    """One revision's entry; `path` is a mounted file or a URI."""

    revision: str
    workload: str
    module: str
    sha256: str
    track: Track
    weight: int
    path: str


@dataclass(frozen=True)
class Table:
    """The routing table of one DSPyDeployment."""

    generation: int
    program: str
    user_header: str
    override_header: str
    routes: tuple[Route, ...]

    def list_own(self, workload: str) -> tuple[Route, ...]:
        """The routes of a pod's workload, stable first; a pod without a workload owns them all."""
        own = [route for route in self.routes if not workload or route.workload == workload]
        return tuple(sorted(own, key=lambda route: route.track is not Track.STABLE))


def parse_table(data: bytes, programs_root: str) -> Table:
    """The table in `data`.

    Raises:
        TableError: with the field that is wrong.
    """
    if len(data) > MAX_TABLE_BYTES:
        raise TableError(f"larger than {MAX_TABLE_BYTES} bytes")
    try:
        value = json.loads(data)
    except ValueError as exc:
        raise TableError(f"not JSON: {exc}") from exc
    _check_keys("table", value, TABLE_FIELDS, required=frozenset({"generation", "program", "routes"}))
    if not isinstance(value["routes"], list):
        raise TableError("routes: not a list")
    routes = tuple(
        _parse_route(f"routes[{index}]", item, programs_root) for index, item in enumerate(value["routes"])
    )
    _check_routes(routes)
    return Table(
        generation=_get_int("generation", value["generation"], maximum=2**53),
        program=_get_text("program", value["program"]),
        user_header=_get_text("userHeader", value.get("userHeader", "")),
        override_header=_get_text("overrideHeader", value.get("overrideHeader", "")),
        routes=routes,
    )


def _check_routes(routes: tuple[Route, ...]) -> None:
    tracks = [route.track for route in routes]
    if tracks.count(Track.STABLE) != 1:
        raise TableError("routes: exactly one must be stable")
    canaries = [route.workload for route in routes if route.track is Track.CANARY]
    if len(set(canaries)) != len(canaries):
        raise TableError("routes: at most one of a workload can be the canary")
    total = sum(route.weight for route in routes)
    if total != FULL_WEIGHT:
        raise TableError(f"routes: the weights sum to {total}, not to {FULL_WEIGHT}")
    if len({route.revision for route in routes}) != len(routes):
        raise TableError("routes: a revision occurs twice")


def _parse_route(where: str, value: Any, programs_root: str) -> Route:
    _check_keys(where, value, ROUTE_FIELDS, required=ROUTE_FIELDS)
    try:
        track = Track(value["track"])
    except ValueError as exc:
        raise TableError(f"{where}.track: not one of {', '.join(Track)}") from exc
    return Route(
        revision=_match(f"{where}.revision", value["revision"], _REVISION),
        workload=_get_text(f"{where}.workload", value["workload"]),
        module=_match(f"{where}.module", value["module"], _MODULE),
        sha256=_match(f"{where}.sha256", value["sha256"], _SHA256),
        track=track,
        weight=_get_int(f"{where}.weight", value["weight"], maximum=FULL_WEIGHT),
        path=_get_path(f"{where}.path", value["path"], programs_root),
    )


def _check_keys(where: str, value: Any, known: frozenset[str], *, required: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise TableError(f"{where}: not an object")
    for name in sorted(set(value) - known):
        raise TableError(f"{where}: unknown key {name!r}")
    for name in sorted(required - set(value)):
        raise TableError(f"{where}: {name} is missing")


def _get_text(where: str, value: Any, *, maximum: int = 256) -> str:
    if not isinstance(value, str) or len(value) > maximum:
        raise TableError(f"{where}: not a short string")
    return value


def _match(where: str, value: Any, pattern: re.Pattern[str]) -> str:
    text = _get_text(where, value)
    if not pattern.fullmatch(text):
        raise TableError(f"{where}: not {pattern.pattern}")
    return text


def _get_int(where: str, value: Any, *, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise TableError(f"{where}: not an integer from 0 to {maximum}")
    return value


def _get_path(where: str, value: Any, programs_root: str) -> str:
    text = _get_text(where, value, maximum=MAX_CHARS)
    if is_uri(text):
        try:
            parse_uri(text)
        except UriError as exc:
            raise TableError(f"{where}: {exc}") from exc
        return text
    path = PurePosixPath(text)
    if ".." in path.parts or not path.is_relative_to(programs_root) or str(path) == programs_root:
        raise TableError(f"{where}: not a file below {programs_root}")
    return str(path)
