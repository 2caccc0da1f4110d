"""Which router moves this resource's traffic now, by which view, and how far it has come: all from one reading."""

from dataclasses import dataclass, replace

from dspy_operator.api.choices import Router as RouterKind
from dspy_operator.manifests.gateway import Parents, read_parents
from dspy_operator.reconcile import children, pods
from dspy_operator.reconcile.children import Wanted
from dspy_operator.reconcile.memory import Given, Memory
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.model import Confirmation, Program, Rollout, Share, Split, Table
from dspy_operator.rollout.sizing import find_sizes
from dspy_operator.traffic.gateway_api import GatewayRouter
from dspy_operator.traffic.process import ProcessRouter
from dspy_operator.traffic.replicas import ReplicasRouter
from dspy_operator.traffic.table import read_table
from dspy_operator.traffic.view import Obstacle, Router, View, has_own_pods

PATIENCE = 10.0
"""Seconds for which the same obstacle is taken for a change on its way: Services and gateways follow within a few."""

GATEWAY, PROCESS, REPLICAS = GatewayRouter(), ProcessRouter(), ReplicasRouter()


@dataclass(frozen=True)
class RoutingState:
    """Where traffic goes, and how far the table has come. `ready`: names of the ready pods that answer users."""

    table: Table | None
    view: View
    router: Router
    ready: frozenset[str]
    confirmation: Confirmation

    @property
    def split(self) -> Split | None:
        """What the table says."""
        return self.table.split if self.table else None


def build_state(
    snapshot: Snapshot, memory: Memory, given: Given, rollout: Rollout | None, stable: Program | None
) -> RoutingState:
    """What is known of routing; the table is not intact either while what routes by it is to be written."""
    table = read_table(snapshot.routes, snapshot.owner, None if rollout else children.get_headers(snapshot))
    split = table.split if table else None
    view = build_view(snapshot, memory, rollout, split, given.now)
    router = choose_router(snapshot, rollout)
    ready = pods.list_using_pods(snapshot, split, stable)
    obstacle = find_obstacle(router, view, split) if split else None
    confirmation = pods.build_confirmation(snapshot, memory, given, table, ready, obstacle)
    if table and router.list_writes(view, table.split, {}):
        table = replace(table, intact=False)
    return RoutingState(table, view, router, ready, confirmation)


def choose_router(snapshot: Snapshot, rollout: Rollout | None) -> Router:
    """By the attempt's frozen plan while a canary has its own pods, else by the spec."""
    if rollout is not None and rollout.known and rollout.has_own_pods:
        return GATEWAY if rollout.plan.routing.router is RouterKind.GATEWAY else REPLICAS
    return GATEWAY if _find_parents(snapshot) else PROCESS


def build_view(
    snapshot: Snapshot, memory: Memory, rollout: Rollout | None, split: Split | None, now: float
) -> View:
    """What the router sees; `now` in seconds by the API server's clock."""
    previews = rollout is not None and rollout.plan.preview is not None and rollout.has_own_pods
    return View(
        owner=snapshot.owner,
        services=snapshot.services,
        slices=snapshot.slices,
        pods=snapshot.pods,
        route=snapshot.route,
        parents=_find_parents(snapshot) or read_parents(snapshot.route),
        override_header=children.get_headers(snapshot).override,
        sizes=find_deployment_sizes(snapshot, rollout, split),
        preview=rollout.to.workload if rollout and previews and not rollout.record.phase.is_end else "",
        lasts=lambda name, state: memory.lasting.measure(name, state, now),
    )


def find_obstacle(router: Router, view: View, split: Split) -> Obstacle | None:
    """Why the split is not in effect; what has only just come up is on its way, and no trouble of the gateway's.

    Shared pods split by themselves: whatever a gateway does, an attempt in them is not kept waiting by it.
    """
    if split.canary is not None and not has_own_pods(split) and not split.leaving:
        return None
    obstacle = router.find_obstacle(view, split)
    if view.lasts("obstacle", obstacle.message if obstacle else None) < PATIENCE and obstacle:
        return replace(obstacle, is_settling=True)
    return obstacle


def find_deployment_sizes(snapshot: Snapshot, rollout: Rollout | None, split: Split | None) -> dict[str, int]:
    """Pods that each workload should have; only those of an attempt with own pods are not simply the spec's."""
    replicas = children.get_replicas(snapshot)
    if rollout is not None and rollout.known and rollout.has_own_pods:
        return find_sizes(replicas, rollout, split)
    return {split.stable.program.workload: replicas} if split else {}


def build_wanted(
    snapshot: Snapshot, view: View, rollout: Rollout | None, stable: Program | None, split: Split | None
) -> Wanted:
    """The children that depend on where traffic goes; nothing while it is not known what stable's pods run."""
    if stable is None or stable.revision not in snapshot.revisions:
        return Wanted()
    sizes = view.sizes or {stable.workload: children.get_replicas(snapshot)}
    programs = {program.workload: program for program in _list_programs(rollout, stable)}
    deployments = tuple(
        (replace(snapshot.revisions[program.revision], workload=workload), sizes[workload])
        for workload, program in programs.items()
        if workload in sizes and program.revision in snapshot.revisions
    )
    router = choose_router(snapshot, rollout)
    shown = split or Split(Share(stable, 0, 100))
    return Wanted(deployments, tuple(router.list_services(view, shown)), has_route=router is GATEWAY)


def _list_programs(rollout: Rollout | None, stable: Program) -> list[Program]:
    """The programs whose pods must be there: stable, and a canary with its own."""
    own = [rollout.to] if rollout is not None and rollout.known and rollout.has_own_pods else []
    return [*own, stable]


def _find_parents(snapshot: Snapshot) -> Parents | None:
    """The Gateways that the spec names."""
    gateway = (snapshot.deployment["spec"].get("traffic") or {}).get("gateway") or {}
    refs = gateway.get("parentRefs") or []
    return Parents(refs, gateway.get("hostnames") or ()) if refs else None
