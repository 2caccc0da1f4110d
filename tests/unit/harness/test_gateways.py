"""The stories' gateways: whose word about which generation counts, and whom clients ask in whose name."""

from __future__ import annotations

from threading import local
from typing import Any

import pytest
from tests.e2e.harness.api import Api
from tests.e2e.harness.backends import build_backend
from tests.e2e.harness.gateways import Gateway, build_gateway_clients, with_gateway

API = Api("http://127.0.0.1:1", local())
TRAEFIK = Gateway(API, "traefik", "public", "gateway", "traefik.io/gateway-controller")
ENVOY = Gateway(API, "envoy", "envoy", "envoy", "dspy-operator.io/test-envoy")


def build_parent(gateway: Gateway, generation: int = 7, **verdicts: str) -> dict[str, Any]:
    verdicts = {"Accepted": "True", "ResolvedRefs": "True"} | verdicts
    return {
        "controllerName": gateway.controller,
        "parentRef": gateway.parent_ref,
        "conditions": [
            {"type": kind, "status": status, "observedGeneration": generation}
            for kind, status in verdicts.items()
        ],
    }


def build_route(*parents: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"generation": 7}, "status": {"parents": list(parents)}}


def test_a_route_is_current_when_this_gateway_has_taken_this_generation() -> None:
    route = build_route(build_parent(TRAEFIK), build_parent(ENVOY, generation=6))
    assert TRAEFIK.is_current(route)
    assert not ENVOY.is_current(route)
    assert not TRAEFIK.is_current({"metadata": {"generation": 7}})


@pytest.mark.parametrize("verdict", [{"Accepted": "False"}, {"ResolvedRefs": "False"}])
def test_a_route_that_was_refused_is_not_current(verdict: dict[str, str]) -> None:
    assert not TRAEFIK.is_current(build_route(build_parent(TRAEFIK, **verdict)))


def test_clients_ask_the_gateway_in_the_name_of_the_host() -> None:
    _, pod = build_gateway_clients(
        ENVOY,
        "ml",
        "python:1",
        "triage.example",
        headers=(("X-Preview", "canary"),),
        options=("--users", "9"),
    )
    command = pod["spec"]["containers"][0]["command"]
    assert "http://envoy.dspy-gateway.svc/ask" in command
    assert command[-8:] == [
        *("--header", "Host", "triage.example"),
        *("--header", "X-Preview", "canary"),
        *("--users", "9"),
    ]


def test_a_resource_below_a_gateway_is_a_copy() -> None:
    obj: dict[str, Any] = {"spec": {"replicas": 2}}
    changed = with_gateway(obj, "triage.example", TRAEFIK, ENVOY)
    assert changed["spec"]["traffic"]["gateway"] == {
        "parentRefs": [
            {"name": "public", "namespace": "dspy-gateway"},
            {"name": "envoy", "namespace": "dspy-gateway"},
        ],
        "hostnames": ["triage.example"],
    }
    assert obj == {"spec": {"replicas": 2}}


def test_only_envoy_can_hold_its_routes_back() -> None:
    with pytest.raises(ValueError, match="traefik cannot"), TRAEFIK.routes_held():
        pass


def test_a_backends_service_finds_its_pods_and_nobody_elses() -> None:
    deployment, service = build_backend("ml", "python:1", "canary")
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    other, _ = build_backend("ml", "python:1", "stable")
    assert service["spec"]["selector"] != other["spec"]["template"]["metadata"]["labels"]
