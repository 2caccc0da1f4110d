"""What the invariants may forget: tables, routes and Services of which nothing in the cluster is in use any more."""

from dataclasses import replace

from tests.model.cluster import Cluster, list_uses
from tests.model.observing import find_obstacle, find_rollout


def settle(cluster: Cluster) -> Cluster:
    """The cluster without memories of what is out of use now."""
    net, ghost = cluster.net, cluster.ghost
    if net is not None and net.taken:
        ghost = replace(ghost, routed=frozenset() if net.route is None else frozenset({net.route}))
    if net is not None and net.reached:
        ghost = replace(ghost, selected=frozenset(net.services))
    if cluster.confirmed and find_obstacle(cluster, find_rollout(cluster)) is None:
        ghost = replace(ghost, uses=list_uses(cluster.table))
    return replace(cluster, ghost=ghost)


def remember(cluster: Cluster) -> Cluster:
    """The cluster that remembers the route and the Services as they are now."""
    net, ghost = cluster.net, cluster.ghost
    if net is None:
        return cluster
    routed = ghost.routed | (frozenset() if net.route is None else {net.route})
    return replace(cluster, ghost=replace(ghost, routed=routed, selected=ghost.selected | set(net.services)))
