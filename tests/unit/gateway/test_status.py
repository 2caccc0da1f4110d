"""What the controller says of a route, and what of others it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.status import (
    CONTROLLER,
    HOLD,
    build_parents,
    find_gateways,
    is_accepted,
    is_held,
)

Object = dict[str, Any]
NOW, EARLIER = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"
PARENT = {"name": "envoy", "namespace": "dspy-gateway"}
LISTENER = {"name": "web", "port": 8000, "protocol": "HTTP"}
GATEWAY = {
    "metadata": {"name": "envoy", "namespace": "dspy-gateway"},
    "spec": {"gatewayClassName": "envoy", "listeners": [LISTENER]},
}
GATEWAYS = {("dspy-gateway", "envoy"): GATEWAY}
SERVICES = {("ml", "stable"): {"spec": {"ports": [{"port": 80}]}}}
FOREIGN = {
    "controllerName": "traefik.io/gateway-controller",
    "parentRef": {"name": "public"},
    "conditions": [],
}


def build_route(
    *parents: Object, backend: str = "stable", before: tuple[Object, ...] = (), **rule: Any
) -> Object:
    rules = [{"backendRefs": [{"name": backend, "port": 80}]} | rule]
    return {
        "metadata": {"name": "triage", "namespace": "ml", "generation": 7},
        "spec": {"parentRefs": list(parents or (PARENT,)), "rules": rules},
        "status": {"parents": list(before)},
    }


def build(route: Object, now: str = NOW) -> list[Object]:
    return build_parents(route, GATEWAYS, SERVICES, now)


def get_verdicts(entry: Object) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in entry["conditions"]}


def test_a_route_that_is_understood_is_accepted_for_its_own_generation() -> None:
    (entry,) = build(build_route())
    assert (entry["controllerName"], entry["parentRef"]) == (CONTROLLER, PARENT)
    assert get_verdicts(entry) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
    }
    assert {c["observedGeneration"] for c in entry["conditions"]} == {7}


def test_a_missing_service_is_said_and_the_route_stays_accepted() -> None:
    route = build_route(backend="missing")
    (entry,) = build(route)
    assert get_verdicts(entry)["ResolvedRefs"] == ("False", "BackendNotFound")
    assert get_verdicts(entry)["Accepted"] == ("True", "Accepted")
    assert is_accepted(route, GATEWAYS)


def test_entries_of_other_controllers_stay_and_ours_goes_when_the_route_no_longer_names_us() -> None:
    (ours,) = build(build_route())
    assert build(build_route(before=(FOREIGN,)))[0] == FOREIGN
    assert build(build_route({"name": "public"}, before=(ours, FOREIGN))) == [FOREIGN]


def test_a_condition_keeps_its_date_for_as_long_as_it_stays_as_it_is() -> None:
    first = build(build_route(), EARLIER)
    (second,) = build(build_route(before=tuple(first), backend="missing"))
    dates = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert dates == {"Accepted": EARLIER, "ResolvedRefs": NOW}
    assert build(build_route(before=tuple(first))) == first


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"filters": [{}]}, "rules with filters"),
        ({"matches": [{"method": "GET"}]}, "matches by method"),
        ({"matches": [{"path": {"type": "RegularExpression", "value": "/a"}}]}, "RegularExpression"),
        ({"matches": [{"headers": [{"type": "RegularExpression", "name": "a", "value": "b"}]}]}, "Regular"),
        ({"backendRefs": [{"name": "stable", "port": 80, "filters": [{}]}]}, "backendRefs with filters"),
    ],
)
def test_a_route_that_says_more_than_is_understood_is_not_accepted(rule: Object, said: str) -> None:
    route = build_route(**rule)
    (entry,) = build(route)
    accepted = entry["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("False", "UnsupportedValue")
    assert said in accepted["message"]
    assert not is_accepted(route, GATEWAYS)


def test_a_listener_that_the_gateway_does_not_have_is_no_parent() -> None:
    named, other = PARENT | {"sectionName": "web"}, PARENT | {"sectionName": "tls"}
    first, second = build(build_route(named, other))
    assert get_verdicts(first)["Accepted"] == ("True", "Accepted")
    assert get_verdicts(second)["Accepted"] == ("False", "NoMatchingParent")


def test_only_gateways_of_a_class_of_this_controller_are_ours() -> None:
    classes = {
        ("", "envoy"): {"spec": {"controllerName": CONTROLLER}},
        ("", "traefik"): {"spec": {"controllerName": "traefik.io/gateway-controller"}},
    }
    other = {"metadata": {"name": "public"}, "spec": {"gatewayClassName": "traefik"}}
    assert find_gateways(classes, GATEWAYS | {("dspy-gateway", "public"): other}) == GATEWAYS


def test_a_story_holds_the_routes_back_by_an_annotation_on_the_gateway() -> None:
    held = {"metadata": {"annotations": {HOLD: "true"}}}
    assert is_held(GATEWAYS | {("dspy-gateway", "other"): held})
    assert not is_held(GATEWAYS)
