"""What Envoy is told, from routes, Services and EndpointSlices."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.routing import UNRESOLVED, Config, build_config, build_route_configuration

Object = dict[str, Any]


def build_ref(name: str, weight: int = 1, **more: Any) -> Object:
    return {"name": name, "port": 80, "weight": weight, **more}


def build_route(
    name: str = "triage",
    rules: list[Object] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> Object:
    metadata = {"name": name, "namespace": "ml", "creationTimestamp": created, "generation": 1}
    rules = rules or [{"backendRefs": [build_ref("stable", 90), build_ref("canary", 10)]}]
    return {"metadata": metadata, "spec": {"hostnames": ["triage.example"], "rules": rules} | spec}


def build_service(name: str, **port: Any) -> Object:
    metadata = {"name": name, "namespace": "ml"}
    return {
        "metadata": metadata,
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8000} | port]},
    }


def build_slice(service: str, addresses: dict[str, bool | None], port: str | None = "http") -> Object:
    endpoints = [
        {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
        for address, ready in addresses.items()
    ]
    labels = {"kubernetes.io/service-name": service}
    metadata = {"name": f"{service}-x", "namespace": "ml", "labels": labels}
    return {"metadata": metadata, "ports": [{"name": port, "port": 8000}], "endpoints": endpoints}


SERVICES = {("ml", name): build_service(name) for name in ("stable", "canary")}


def build(*routes: Object, slices: tuple[Object, ...] = ()) -> Config:
    return build_config(routes, SERVICES, slices)


def get_entries(config: Config, host: str = "triage.example") -> list[Object]:
    (found,) = [entry for entry in config.virtual_hosts if entry["domains"] == [host]]
    entries: list[Object] = found["routes"]
    return entries


def get_addresses(config: Config, cluster: str) -> list[tuple[str, int]]:
    (locality,) = config.endpoints[cluster]["endpoints"]
    sockets = [entry["endpoint"]["address"]["socket_address"] for entry in locality["lb_endpoints"]]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def test_weights_are_a_random_choice_between_the_clusters_of_the_services() -> None:
    (entry,) = get_entries(build(build_route()))
    assert entry["match"] == {"prefix": "/"}
    assert entry["route"]["weighted_clusters"]["clusters"] == [
        {"name": "ml/stable:80", "weight": 90},
        {"name": "ml/canary:80", "weight": 10},
    ]
    assert entry["route"]["timeout"] == "0s"


def test_a_backend_of_weight_zero_gets_nothing_and_keeps_its_cluster() -> None:
    refs = [build_ref("stable", 100), build_ref("canary", 0)]
    config = build(build_route(rules=[{"backendRefs": refs}]))
    (entry,) = get_entries(config)
    assert entry["route"]["weighted_clusters"]["clusters"] == [{"name": "ml/stable:80", "weight": 100}]
    assert config.clusters.keys() == config.endpoints.keys() == {"ml/stable:80", "ml/canary:80"}


@pytest.mark.parametrize(
    "ref",
    [
        build_ref("missing", 10),
        build_ref("canary", 10, port=81),
        build_ref("canary", 10, namespace="other"),
        build_ref("canary", 10, kind="ConfigMap"),
    ],
    ids=["no Service", "no port", "another namespace", "no Service at all"],
)
def test_a_reference_that_leads_nowhere_has_its_share_of_500(ref: Object) -> None:
    config = build(build_route(rules=[{"backendRefs": [build_ref("stable", 90), ref]}]))
    (entry,) = get_entries(config)
    assert entry["route"]["weighted_clusters"]["clusters"][1] == {"name": UNRESOLVED, "weight": 10}
    assert entry["route"]["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    assert config.clusters.keys() == {"ml/stable:80"}


def test_a_rule_whose_weights_are_all_zero_answers_500() -> None:
    (entry,) = get_entries(build(build_route(rules=[{"backendRefs": [build_ref("stable", 0)]}])))
    assert entry == {"match": {"prefix": "/"}, "direct_response": {"status": 500}}


def test_the_more_precise_match_comes_first_whatever_the_order_of_the_rules() -> None:
    rules = [
        {"backendRefs": [build_ref("stable")], "matches": [{"path": {"type": "PathPrefix", "value": "/"}}]},
        {"backendRefs": [build_ref("canary")], "matches": [{"headers": [{"name": "x-a", "value": "b"}]}]},
        {
            "backendRefs": [build_ref("canary")],
            "matches": [{"path": {"type": "PathPrefix", "value": "/v1/"}}],
        },
        {"backendRefs": [build_ref("canary")], "matches": [{"path": {"type": "Exact", "value": "/a"}}]},
    ]
    matches = [entry["match"] for entry in get_entries(build(build_route(rules=rules)))]
    assert matches == [
        {"path": "/a"},
        {"path_separated_prefix": "/v1"},
        {"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "b"}}]},
        {"prefix": "/"},
    ]


def test_two_routes_of_one_hostname_share_a_virtual_host_and_the_older_wins() -> None:
    young = build_route(
        "a-young", [{"backendRefs": [build_ref("canary")]}], "2026-01-02T00:00:00Z", hostnames=None
    )
    young["spec"]["hostnames"] = ["triage.example", "other.example"]
    config = build(young, build_route())
    names = [host["name"] for host in config.virtual_hosts]
    first, second = get_entries(config)
    assert names == ["other.example", "triage.example"]
    assert len(first["route"]["weighted_clusters"]["clusters"]) == 2
    assert len(second["route"]["weighted_clusters"]["clusters"]) == 1


def test_a_route_without_hostnames_is_for_every_host_and_ports_in_the_host_do_not_matter() -> None:
    config = build(build_route(hostnames=[]))
    assert [host["domains"] for host in config.virtual_hosts] == [["*"]]
    assert build_route_configuration(config)["ignore_port_in_host_matching"] is True


def test_only_ready_endpoints_of_the_right_port_get_requests() -> None:
    config = build(
        build_route(),
        slices=(
            build_slice("stable", {"10.0.0.1": True, "10.0.0.2": False, "10.0.0.3": None}),
            build_slice("stable", {"10.0.0.4": True}, port="metrics"),
            build_slice("canary", {"10.0.0.9": True}),
        ),
    )
    assert get_addresses(config, "ml/stable:80") == [("10.0.0.1", 8000), ("10.0.0.3", 8000)]
    assert get_addresses(config, "ml/canary:80") == [("10.0.0.9", 8000)]


def test_a_service_without_endpoints_is_still_named_as_envoy_would_wait_for_it() -> None:
    assert get_addresses(build(build_route()), "ml/canary:80") == []


def test_a_port_without_a_name_is_found_too() -> None:
    service = build_service("stable")
    del service["spec"]["ports"][0]["name"]
    route = build_route(rules=[{"backendRefs": [build_ref("stable")]}])
    slices = [build_slice("stable", {"10.0.0.1": True}, port=None)]
    config = build_config([route], {("ml", "stable"): service}, slices)
    assert get_addresses(config, "ml/stable:80") == [("10.0.0.1", 8000)]
