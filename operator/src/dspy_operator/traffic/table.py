"""A split as the routing table that the pods read, and the table of a live ConfigMap as a split.

For shared pods the table is all there is; what routes to own pods follows it (`gateway_api.py`, `replicas.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.api.names import Track
from dspy_operator.manifests.owner import Manifest, Owner
from dspy_operator.manifests.routes import (
    Route,
    Stamp,
    build_routes,
    find_canary,
    parse_routes,
    parse_stamp,
    render_table,
)
from dspy_operator.manifests.routes import Table as RoutingTable
from dspy_operator.rollout.model import Program, Share, Split, Table

AFTER_A_LOSS: Final = 1000
"""How far the generation of a table whose predecessor is gone jumps: servers ignore what is not newer."""

_SLOTS: Final = {names.slot_path(slot): slot for slot in range(names.SLOTS)}


@dataclass(frozen=True)
class Headers:
    """Which request headers split and override; empty: none."""

    user: str = ""
    override: str = ""


def read_table(config_map: Mapping[str, Any] | None, owner: Owner, headers: Headers | None) -> Table | None:
    """The table of a live ConfigMap; None if there is none or it cannot be read.

    Not intact is one whose text is not what its split and `headers` (None: whatever it says) give.
    """
    parsed = parse_routes(config_map)
    split = _read_split(parsed, find_canary(config_map or {})) if parsed else None
    if config_map is None or parsed is None or split is None:
        return None
    stamp = parse_stamp(config_map)
    said = Headers(parsed.user_header, parsed.override_header)
    text = render_table(_build_table(owner, split, parsed.generation, headers or said))
    return Table(
        split=split,
        generation=parsed.generation,
        rollout=stamp.rollout,
        number=stamp.number,
        epoch=stamp.epoch,
        intact=config_map["data"][names.ROUTES_KEY] == text,
    )


def read_headers(config_map: Mapping[str, Any] | None) -> Headers | None:
    """The headers of a live table."""
    parsed = parse_routes(config_map)
    return Headers(parsed.user_header, parsed.override_header) if parsed else None


def build_table(owner: Owner, split: Split, generation: int, headers: Headers, stamp: Stamp) -> Manifest:
    """The ConfigMap that carries out a split."""
    canary = split.canary.program.revision if split.canary else ""
    return build_routes(owner, _build_table(owner, split, generation, headers), stamp, canary)


def _build_table(owner: Owner, split: Split, generation: int, headers: Headers) -> RoutingTable:
    routes = [_build_route(split.stable, Track.STABLE)]
    routes += [_build_route(split.canary, Track.CANARY)] if split.canary else []
    routes += [_build_route(share, Track.CANARY) for share in split.leaving]
    return RoutingTable(generation, owner.name, headers.user, headers.override, tuple(routes))


def _build_route(share: Share, track: Track) -> Route:
    program = share.program
    return Route(
        revision=program.revision,
        workload=program.workload,
        module=program.module,
        sha256=program.sha256,
        track=track,
        weight=share.weight,
        path=names.slot_path(share.slot),
    )


def _read_split(table: RoutingTable, named: str | None) -> Split | None:
    stable = [route for route in table.routes if route.track is Track.STABLE]
    others = [route for route in table.routes if route.track is Track.CANARY]
    if len(stable) != 1 or any(route.path not in _SLOTS for route in table.routes):
        return None
    shared = [route for route in others if route.workload == stable[0].workload]
    canary = shared if named is None else [route for route in others if route.revision == named]
    leaving = [route for route in others if route not in canary]
    if len(canary) > 1 or any(route in leaving for route in shared):
        return None
    return Split(
        _read_share(stable[0]),
        _read_share(canary[0]) if canary else None,
        tuple(_read_share(route) for route in leaving),
    )


def _read_share(route: Route) -> Share:
    program = Program(route.revision, route.workload, route.sha256, route.module)
    return Share(program, _SLOTS[route.path], route.weight)
