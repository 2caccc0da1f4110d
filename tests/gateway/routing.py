"""HTTPRoutes and EndpointSlices as Envoy's routes, clusters and endpoints; pure, dicts in and dicts out.

It knows what a route of the operator may say: hostnames, a path prefix, exact paths and header values, weights.
`status` refuses a route that says more, as one that is half understood would lead traffic astray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.gateway.kube import get_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.gateway.kube import Key, Object

TYPE = "type.googleapis.com/envoy.config"
DIRECTORY = "/config"
UNRESOLVED = "unresolved"  # no cluster has this name, so that its share is answered 500
SERVICE_LABEL = "kubernetes.io/service-name"
UPSTREAM_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# Shorter than servers keep idle connections: a request over one that is just being closed would fail.
IDLE = "2s"


@dataclass(frozen=True)
class Backend:
    """One resolved backendRef: the cluster that gets its share, or why there is none (a Gateway API reason)."""

    cluster: str
    weight: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Config:
    """The resources of Envoy's files."""

    virtual_hosts: list[Object]
    clusters: dict[str, Object]
    endpoints: dict[str, Object]


def resolve(ref: Object, namespace: str, services: Mapping[Key, Object]) -> Backend:
    """Where a backendRef of a route in that namespace leads."""
    weight, name = ref.get("weight", 1), ref["name"]
    if (ref.get("group", ""), ref.get("kind", "Service")) != ("", "Service"):
        return Backend(UNRESOLVED, weight, "InvalidKind", f"{name} is no Service")
    if ref.get("namespace", namespace) != namespace:
        return Backend(UNRESOLVED, weight, "RefNotPermitted", f"{name} is in another namespace")
    service = services.get((namespace, name))
    if service is None:
        return Backend(UNRESOLVED, weight, "BackendNotFound", f"there is no Service {name}")
    if all(port["port"] != ref.get("port") for port in service["spec"].get("ports", [])):
        return Backend(UNRESOLVED, weight, "BackendNotFound", f"{name} has no port {ref.get('port')}")
    return Backend(f"{namespace}/{name}:{ref['port']}", weight)


def list_backends(route: Object, services: Mapping[Key, Object]) -> Iterator[Backend]:
    """All backends of a route, in order."""
    for rule in route["spec"].get("rules", []):
        for ref in rule.get("backendRefs", []):
            yield resolve(ref, get_key(route)[0], services)


def build_config(
    routes: Iterable[Object], services: Mapping[Key, Object], slices: Iterable[Object]
) -> Config:
    """Everything that Envoy is told, from the routes that were accepted."""
    ordered = sorted(routes, key=lambda route: (route["metadata"]["creationTimestamp"], *get_key(route)))
    names = {backend.cluster for route in ordered for backend in list_backends(route, services)}
    names.discard(UNRESOLVED)
    known = list(slices)
    return Config(
        build_virtual_hosts(ordered, services),
        {name: build_cluster(name) for name in sorted(names)},
        {name: build_endpoints(name, services, known) for name in sorted(names)},
    )


def build_virtual_hosts(routes: list[Object], services: Mapping[Key, Object]) -> list[Object]:
    """One virtual host for each hostname, whichever routes name it: Envoy refuses a name that comes twice."""
    entries: dict[str, list[tuple[tuple[int, ...], Object]]] = {}
    for route in routes:
        for host in route["spec"].get("hostnames") or ["*"]:
            entries.setdefault(host, []).extend(build_entries(route, services))
    return [
        # A stable sort: where two are as precise as each other, the older route and the earlier rule win.
        {"name": host, "domains": [host], "routes": [entry for _, entry in sorted(found, key=lambda e: e[0])]}
        for host, found in sorted(entries.items())
    ]


def build_entries(route: Object, services: Mapping[Key, Object]) -> Iterator[tuple[tuple[int, ...], Object]]:
    """Envoy's entries for each match of each rule, with the rank by which the more precise one comes first."""
    for rule in route["spec"].get("rules", []):
        backends = [resolve(ref, get_key(route)[0], services) for ref in rule.get("backendRefs", [])]
        for match in rule.get("matches") or [{}]:
            path = match.get("path", {})
            value, headers = path.get("value", "/"), match.get("headers", [])
            exact = path.get("type") == "Exact"
            yield (not exact, -len(value), -len(headers)), {"match": build_match(match)} | split(backends)


def build_match(match: Object) -> Object:
    """Envoy's match for one of a rule; `/ask` as a prefix means `/ask` and what is below it, not `/asking`."""
    path = match.get("path", {})
    value = path.get("value", "/")
    trimmed = value.rstrip("/")
    built: Object = {"prefix": "/"} if not trimmed else {"path_separated_prefix": trimmed}
    if path.get("type") == "Exact":
        built = {"path": value}
    headers = [
        {"name": header["name"], "string_match": {"exact": header["value"]}}
        for header in match.get("headers", [])
    ]
    return built | ({"headers": headers} if headers else {})


def split(backends: list[Backend]) -> Object:
    """What is done with a request: a random choice by weight, or 500 where no backend has any."""
    clusters = [{"name": backend.cluster, "weight": backend.weight} for backend in backends if backend.weight]
    if not clusters:
        return {"direct_response": {"status": 500}}
    return {
        "route": {
            "weighted_clusters": {"clusters": clusters},
            "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR",
            "timeout": "0s",
        }
    }


def build_cluster(name: str) -> Object:
    """A cluster whose endpoints come from a file."""
    path = f"{DIRECTORY}/{get_file(name)}.json"
    source = {"resource_api_version": "V3", "path_config_source": {"path": path}}
    return {
        "@type": f"{TYPE}.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "connect_timeout": "2s",
        "eds_cluster_config": {"service_name": name, "eds_config": source},
        "typed_extension_protocol_options": {
            UPSTREAM_OPTIONS: {
                "@type": f"type.googleapis.com/{UPSTREAM_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": IDLE},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def get_file(cluster: str) -> str:
    """The name of a cluster's file of endpoints: Envoy takes no more than one cluster's from a file."""
    return "eds-" + cluster.replace("/", "_").replace(":", "_")


def build_endpoints(name: str, services: Mapping[Key, Object], slices: Iterable[Object]) -> Object:
    """The ready endpoints of a cluster `NAMESPACE/SERVICE:PORT`; it is named also when it has none."""
    namespace, _, rest = name.partition("/")
    service, _, number = rest.partition(":")
    ports = services[namespace, service]["spec"]["ports"]
    port = next(port.get("name", "") for port in ports if port["port"] == int(number))
    found = {
        (address, target["port"])
        for part in slices
        if get_key(part)[0] == namespace and part["metadata"].get("labels", {}).get(SERVICE_LABEL) == service
        for target in part.get("ports") or []
        if (target.get("name") or "") == port
        for endpoint in part.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready") is not False
        for address in endpoint["addresses"]
    }
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": target}}}}
        for address, target in sorted(found)
    ]
    return {
        "@type": f"{TYPE}.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": hosts}],
    }


def build_route_configuration(config: Config) -> Object:
    """The one RouteConfiguration, by the name that the listener asks for."""
    return {
        "@type": f"{TYPE}.route.v3.RouteConfiguration",
        "name": "routes",
        "virtual_hosts": config.virtual_hosts,
        "ignore_port_in_host_matching": True,
    }
