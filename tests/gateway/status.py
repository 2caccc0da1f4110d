"""What the controller says of Gateways and routes in their status; pure.

A route's `status.parents` is shared by all controllers: one writes its own entries and hands the others on as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.gateway.kube import get_key
from tests.gateway.routing import list_backends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.gateway.kube import Key, Object

CONTROLLER = "dspy-operator.io/test-envoy"
HOLD = "dspy-operator.io/test-hold-routes"
RULE_FIELDS = {"name", "matches", "backendRefs"}
MATCH_FIELDS = {"path", "headers"}


def find_gateways(classes: Mapping[Key, Object], gateways: Mapping[Key, Object]) -> dict[Key, Object]:
    """The Gateways whose class names this controller."""
    ours = {name for (_, name), found in classes.items() if found["spec"]["controllerName"] == CONTROLLER}
    return {key: found for key, found in gateways.items() if found["spec"]["gatewayClassName"] in ours}


def is_held(gateways: Mapping[Key, Object]) -> bool:
    """Whether a story wants that Envoy learns nothing new, whatever the status says."""
    return any(
        gateway["metadata"].get("annotations", {}).get(HOLD) == "true" for gateway in gateways.values()
    )


def list_parents(route: Object, gateways: Mapping[Key, Object]) -> list[Object]:
    """The parentRefs of a route that name one of these Gateways."""
    namespace, _ = get_key(route)
    return [
        ref
        for ref in route["spec"].get("parentRefs") or []
        if ref.get("kind", "Gateway") == "Gateway"
        and (ref.get("namespace", namespace), ref["name"]) in gateways
    ]


def find_unknown(route: Object) -> str:
    """What a route says that this controller does not understand; empty when there is nothing."""
    for rule in route["spec"].get("rules") or []:
        if unknown := rule.keys() - RULE_FIELDS:
            return f"rules with {', '.join(sorted(unknown))}"
        for ref in rule.get("backendRefs") or []:
            if "filters" in ref:
                return "backendRefs with filters"
        for match in rule.get("matches") or []:
            if unknown := match.keys() - MATCH_FIELDS:
                return f"matches by {', '.join(sorted(unknown))}"
            kinds = {match.get("path", {}).get("type", "PathPrefix")} - {"PathPrefix", "Exact"}
            kinds |= {header.get("type", "Exact") for header in match.get("headers", [])} - {"Exact"}
            if kinds:
                return f"matches of type {', '.join(sorted(kinds))}"
    return ""


def is_attached(route: Object, parent: Object, gateways: Mapping[Key, Object]) -> bool:
    """Whether the Gateway has the listener that a parentRef asks for."""
    key = (parent.get("namespace", get_key(route)[0]), parent["name"])
    return any(
        parent.get("sectionName", listener["name"]) == listener["name"]
        and parent.get("port", listener["port"]) == listener["port"]
        for listener in gateways[key]["spec"]["listeners"]
    )


def is_accepted(route: Object, gateways: Mapping[Key, Object]) -> bool:
    """Whether any of these Gateways carries traffic for a route."""
    return not find_unknown(route) and any(
        is_attached(route, parent, gateways) for parent in list_parents(route, gateways)
    )


def build_parents(
    route: Object, gateways: Mapping[Key, Object], services: Mapping[Key, Object], now: str
) -> list[Object]:
    """The `status.parents` that a route should have: those of other controllers first, untouched."""
    before = route.get("status", {}).get("parents", [])
    others = [entry for entry in before if entry["controllerName"] != CONTROLLER]
    ours = []
    for parent in list_parents(route, gateways):
        entry = {"parentRef": parent, "controllerName": CONTROLLER}
        known = [old["conditions"] for old in before if entry.items() <= old.items()]
        conditions = [judge_acceptance(route, parent, gateways), judge_references(route, services)]
        ours.append(entry | {"conditions": date(conditions, route, next(iter(known), []), now)})
    return [*others, *ours]


def judge_acceptance(route: Object, parent: Object, gateways: Mapping[Key, Object]) -> Object:
    """The condition Accepted."""
    if unknown := find_unknown(route):
        return build_condition("Accepted", "UnsupportedValue", f"this gateway does not know {unknown}")
    if not is_attached(route, parent, gateways):
        return build_condition("Accepted", "NoMatchingParent", "the Gateway has no such listener")
    return build_condition("Accepted")


def judge_references(route: Object, services: Mapping[Key, Object]) -> Object:
    """The condition ResolvedRefs, with the first reference that leads nowhere, whatever its weight."""
    broken = next((backend for backend in list_backends(route, services) if backend.reason), None)
    if broken:
        return build_condition("ResolvedRefs", broken.reason, broken.message)
    return build_condition("ResolvedRefs")


def build_condition(kind: str, reason: str = "", message: str = "") -> Object:
    """A condition without dates: False when there is a reason, else True."""
    return {
        "type": kind,
        "status": "False" if reason else "True",
        "reason": reason or kind,
        "message": message,
    }


def date(conditions: list[Object], obj: Object, before: list[Object], now: str) -> list[Object]:
    """Conditions with the object's generation, and with the time at which each became what it is."""
    since = {(old["type"], old["status"]): old["lastTransitionTime"] for old in before}
    generation = obj["metadata"]["generation"]
    return [
        condition
        | {
            "observedGeneration": generation,
            "lastTransitionTime": since.get((condition["type"], condition["status"]), now),
        }
        for condition in conditions
    ]
