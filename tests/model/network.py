"""Deployments, Services and the HTTPRoute of one state, and what the shipped routers say to them.

`traffic/` decides what is to be written and what a split still waits for; here it gets a cluster to look at. Time is
one bit of each: the gateway follows the route as it is now, and Services reach the pods that they select, or not yet.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tests.model.programs import NAME, REPLICAS, Means

from dspy_operator.api import names
from dspy_operator.api.choices import Router as RouterKind
from dspy_operator.manifests.gateway import Parents, Weights, build_route, read_weights
from dspy_operator.manifests.owner import Manifest, Owner
from dspy_operator.manifests.service import build_service
from dspy_operator.reconcile import routing
from dspy_operator.rollout.model import Program, Rollout, Share, Split
from dspy_operator.rollout.sizing import find_sizes
from dspy_operator.traffic.view import SETTLE, Obstacle, Router, View

OWNER = Owner("demo", NAME, "u-0")
_GATEWAY = {"name": "public"}
_PARENTS = Parents([_GATEWAY])
FULL = 100
ROUTE = "the route"
CLIENTS, STABLE, CANARY = NAME, names.stable_service_name(NAME), names.canary_service_name(NAME)


@dataclass(frozen=True)
class Pods:
    """A Deployment: how many pods it should have, and how many are ready."""

    workload: str
    size: int
    ready: int


@dataclass(frozen=True)
class Net:
    """What routes to pods. `services`: the workload that each selects, empty for all serving pods.

    `route`: percent of the canary's Service, None without a gateway. `taken`: the gateway follows the route as it is
    now. `reached`: Services reach the ready pods that they select, and have for a while.
    """

    pods: tuple[Pods, ...]
    services: tuple[tuple[str, str], ...]
    route: int | None = None
    taken: bool = True
    reached: bool = True

    def find_pods(self, workload: str) -> Pods | None:
        """The Deployment of a workload."""
        return next((pods for pods in self.pods if pods.workload == workload), None)

    def count_ready(self, workload: str) -> int:
        """Ready pods of a workload."""
        pods = self.find_pods(workload)
        return pods.ready if pods else 0

    def get_selected(self, service: str) -> str | None:
        """The workload that a Service selects, None if there is no such Service."""
        return dict(self.services).get(service)

    def with_pods(self, pods: Pods) -> "Net":
        """With this Deployment in the place of what there is of its workload."""
        return replace(self, pods=_sort([*(p for p in self.pods if p.workload != pods.workload), pods]))

    def without_pods(self, workload: str) -> "Net":
        """Without a Deployment."""
        return replace(self, pods=tuple(pods for pods in self.pods if pods.workload != workload))

    def with_service(self, name: str, workload: str | None) -> "Net":
        """With a Service of these pods; None: without that Service. Its endpoints follow later."""
        changed = {**dict(self.services), name: workload}
        services = tuple(sorted((key, value) for key, value in changed.items() if value is not None))
        return self if services == self.services else replace(self, services=services, reached=False)

    def with_route(self, percent: int) -> "Net":
        """With this route; the same one again is no news to the gateway."""
        return self if percent == self.route else replace(self, route=percent, taken=False)


def _sort(pods: list[Pods]) -> tuple[Pods, ...]:
    return tuple(sorted(pods, key=lambda one: one.workload))


def build_net(means: Means, workload: str = "w1") -> Net:
    """Stable's pods alone serve."""
    roles = (CLIENTS, CANARY, STABLE) if means.router is RouterKind.GATEWAY else (CLIENTS,)
    route = 0 if means.router is RouterKind.GATEWAY else None
    return Net((Pods(workload, REPLICAS, REPLICAS),), tuple((role, workload) for role in roles), route)


def list_ways(net: Net, routed: frozenset[int], selected: frozenset[tuple[str, str]]) -> frozenset[str]:
    """Workloads that clients reach by any of these routes and any of these selections of the Services."""
    used = {CLIENTS}
    used |= {STABLE} if any(percent < FULL for percent in routed) else set()
    used |= {CANARY} if any(percent > 0 for percent in routed) else set()
    workloads = {workload for name, workload in selected if name in used}
    everybody = {pods.workload for pods in net.pods} if "" in workloads else set()
    return frozenset(workloads - {""} | everybody)


# --- what the routers see and say --------------------------------------------------------------------------


@dataclass(frozen=True)
class Side:
    """All of an attempt and its check that a router and the sizes of Deployments go by; hashed, and so asked once.

    `own`: workload of a canary's own pods, empty without; `sizes`: pods that each workload should have.
    """

    router: Router
    own: str
    sizes: tuple[tuple[str, int], ...]
    preview: str


def look_at(means: Means, rollout: Rollout | None, split: Split | None) -> Side:
    """As `reconcile/routing.py` chooses the router, the sizes, and what a preview shows."""
    if rollout is not None and rollout.has_own_pods:
        is_gateway = rollout.plan.routing.router is RouterKind.GATEWAY
        sizes = find_sizes(REPLICAS, rollout, split)
        shows = rollout.plan.preview is not None and not rollout.record.phase.is_end
        own = rollout.to.workload
        router: Router = routing.GATEWAY if is_gateway else routing.REPLICAS
        return Side(router, own, tuple(sizes.items()), own if shows else "")
    router = routing.GATEWAY if means.router is RouterKind.GATEWAY else routing.PROCESS
    return Side(router, "", ((split.stable.program.workload, REPLICAS),) if split else (), "")


def forget() -> None:
    """Ask the routers anew: they may have been patched."""
    for asked in (find_obstacle, list_routed, count_reachable, find_wanted):
        asked.cache_clear()


@cache
def find_obstacle(net: Net, side: Side, split: Split) -> Obstacle | None:
    """Why what routes to pods does not follow the split yet."""
    return side.router.find_obstacle(_build_full_view(net, side), split)


@cache
def list_routed(net: Net, side: Side, split: Split, again: bool) -> tuple[tuple[str, str | int], ...]:  # noqa: FBT001  cached
    """What a router would write now: Services and what they select; of the route the percent of the canary's."""
    writes = side.router.list_writes(_build_full_view(net, side), split, {"of": "a record"}, again=again)
    return tuple(read_service(one) if one["kind"] == "Service" else _read_route(one) for one in writes)


@cache
def count_reachable(net: Net, side: Side, split: Split) -> int:
    """Ready pods of the canary's own that traffic would reach."""
    return side.router.count_reachable(_build_full_view(net, side), split)[0]


def _build_full_view(net: Net, side: Side) -> View:
    return replace(_build_view(net), sizes=dict(side.sizes), preview=side.preview)


def _read_route(route: Manifest) -> tuple[str, int]:
    weights = read_weights(route, OWNER)
    return ROUTE, weights[1] if weights else 0


@cache
def _build_view(net: Net) -> View:
    services = {name: build_service(OWNER, name, workload or None) for name, workload in net.services}
    return View(
        owner=OWNER,
        services=services,
        slices=tuple(_build_slice(net, name, workload) for name, workload in net.services)
        if net.reached
        else (),
        pods=tuple(_build_pod(pods, n) for pods in net.pods for n in range(pods.size)),
        route=None if net.route is None else _build_route(net),
        parents=None if net.route is None else _PARENTS,
        lasts=lambda name, _: SETTLE if (net.taken if name == "route" else net.reached) else 0.0,
    )


def _build_pod(pods: Pods, number: int) -> dict[str, Any]:
    status = "True" if number < pods.ready else "False"
    return {
        "metadata": {"name": _name_pod(pods, number), "labels": {names.LABEL_WORKLOAD: pods.workload}},
        "status": {"conditions": [{"type": "Ready", "status": status}]},
    }


def _name_pod(pods: Pods, number: int) -> str:
    return f"{pods.workload}-{number}"


def _build_slice(net: Net, service: str, workload: str) -> dict[str, Any]:
    reached = [
        _name_pod(pods, n) for pods in net.pods if workload in {"", pods.workload} for n in range(pods.ready)
    ]
    return {
        "metadata": {"labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"targetRef": {"name": name}, "conditions": {"ready": True}} for name in reached],
    }


def _build_route(net: Net) -> Manifest:
    percent = net.route or 0
    route = build_route(OWNER, _PARENTS, Weights(FULL - percent, percent), {})
    route["metadata"] |= {"uid": "u-1", "generation": 1}
    kinds = ("Accepted", "ResolvedRefs") if net.taken else ()
    conditions = [{"type": kind, "status": "True", "observedGeneration": 1} for kind in kinds]
    route["status"] = {"parents": [{"parentRef": _GATEWAY, "conditions": conditions}]}
    return route


@dataclass(frozen=True)
class Wanted:
    """Children that there must be: Deployments with their sizes, and Services with the workload of each."""

    pods: tuple[tuple[str, int], ...] = ()
    services: tuple[tuple[str, str], ...] = ()


@cache
def find_wanted(net: Net, side: Side, stable: Program | None, split: Split | None) -> Wanted:
    """As `reconcile/routing.py`; nothing while it is not known what stable's pods run."""
    if stable is None:
        return Wanted()
    sizes = dict(side.sizes) or {stable.workload: REPLICAS}
    workloads = dict.fromkeys([*([side.own] if side.own else []), stable.workload])
    pods = tuple((workload, sizes[workload]) for workload in workloads if workload in sizes)
    services = side.router.list_services(_build_full_view(net, side), split or Split(Share(stable, 0, FULL)))
    return Wanted(pods, tuple(read_service(service) for service in services)) if pods else Wanted()


def read_service(service: Manifest) -> tuple[str, str]:
    """Its name, and the workload that it selects."""
    selector = service["spec"]["selector"]
    return service["metadata"]["name"], selector.get(names.LABEL_WORKLOAD, "")


def list_drifted(net: Net, wanted: Wanted) -> tuple[str, ...]:
    """As `reconcile/children.py`."""
    if not wanted.pods:
        return ()
    live = dict(net.services)
    drifted = [f"Service {name}" for name, workload in wanted.services if live.get(name) != workload]
    drifted += [f"Service {name}" for name in live.keys() - dict(wanted.services).keys()]
    found = {pods.workload: pods.size for pods in net.pods}
    drifted += ["Deployment" for workload, size in wanted.pods if found.get(workload) != size]
    return tuple(drifted)
