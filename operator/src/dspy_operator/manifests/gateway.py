"""The HTTPRoute `<name>`: both backends at any time, so that each change of the split is one write of it.

The whole route is ours: its rules are one atomic list (Gateway API, HTTPRoute v1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.manifests.owner import Manifest, Owner, build_child

_KIND: Final = ("gateway.networking.k8s.io/v1", "HTTPRoute")


@dataclass(frozen=True)
class Parents:
    """Which Gateways, and for which hosts, as the wire says it."""

    refs: Sequence[Mapping[str, Any]]
    hostnames: Sequence[str] = ()


@dataclass(frozen=True)
class Weights:
    """Percent of each backend, and values of a request header that choose one whatever the weights."""

    stable: int
    canary: int
    header: str = ""
    to_canary: Sequence[str] = ()
    to_stable: Sequence[str] = ()


def build_route(owner: Owner, parents: Parents, weights: Weights, annotations: Mapping[str, str]) -> Manifest:
    """The route. `annotations` say which record it carries out."""
    stable, canary = names.stable_service_name(owner.name), names.canary_service_name(owner.name)
    route = build_child(owner, _KIND, names.route_name(owner.name), annotations=annotations)
    chosen = [(canary, value) for value in weights.to_canary] + [
        (stable, value) for value in weights.to_stable
    ]
    rules = [_build_choice(weights.header, value, backend) for backend, value in chosen if weights.header]
    shares = [_build_backend(stable, weights.stable), _build_backend(canary, weights.canary)]
    route["spec"] = {
        "parentRefs": [dict(ref) for ref in parents.refs],
        "rules": [
            *rules,
            {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": shares},
        ],
    }
    if parents.hostnames:
        route["spec"]["hostnames"] = list(parents.hostnames)
    return route


def read_weights(route: Mapping[str, Any] | None, owner: Owner) -> tuple[int, int] | None:
    """What a live route gives stable and canary; None if there is none or it is not one that we wrote."""
    rules = ((route or {}).get("spec") or {}).get("rules") or []
    refs = (rules[-1].get("backendRefs") or []) if rules else []
    shares = {str(ref.get("name")): ref.get("weight", 1) for ref in refs}
    found = [shares.get(name(owner.name)) for name in (names.stable_service_name, names.canary_service_name)]
    return (found[0], found[1]) if isinstance(found[0], int) and isinstance(found[1], int) else None


def read_parents(route: Mapping[str, Any] | None) -> Parents | None:
    """Which Gateways a live route names."""
    spec = (route or {}).get("spec") or {}
    refs = spec.get("parentRefs") or []
    return Parents(refs, spec.get("hostnames") or ()) if refs else None


def _build_choice(header: str, value: str, backend: str) -> Manifest:
    match = {"headers": [{"type": "Exact", "name": header, "value": value}]}
    return {"matches": [match], "backendRefs": [_build_backend(backend, 1)]}


def _build_backend(service: str, weight: int) -> Manifest:
    return {"name": service, "port": names.PORT_SERVICE, "weight": weight}
