"""The safety rules about canaries with pods of their own: Deployments, role Services, and the route beside the table.

As in `invariants.py` and `decisions.py`: each returns the broken rule and a sentence, or None.
"""

from collections.abc import Callable

from tests.model.cluster import Cluster
from tests.model.effects import PutPods, PutRoute, PutService, Write
from tests.model.invariants import FORWARD, Broken
from tests.model.network import CANARY, CLIENTS, FULL, STABLE, list_ways
from tests.model.programs import REPLICAS

from dspy_operator.api.choices import Router
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.model import Observation, Phase

LOWERED_ENDS = frozenset({Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})


# --- one decision ------------------------------------------------------------------------------------------


def stable_is_replaced_only_where_nothing_serves(seen: Observation, decision: Decision) -> Broken:
    """S8: without an attempt stable changes only while none of its pods is ready."""
    record, stable = decision.deployment, seen.record.stable
    if record is None or record.stable is None or stable is None or seen.record.pointer:
        return None
    if record.stable.revision == stable.revision or not seen.capacity.ready_pods:
        return None
    return f"S8: {record.stable.revision} replaces {stable.revision}, which serves, without a trial"


def an_end_waits_for_what_routes(seen: Observation, decision: Decision) -> Broken:
    """S7: an attempt that was given up ends only when the route says so too."""
    rollout, record = seen.rollout, decision.rollout
    if rollout is None or record is None or record.phase not in LOWERED_ENDS or rollout.record.phase.is_end:
        return None
    is_told = seen.table is None or seen.table.intact
    return None if is_told else f"S7: {record.phase} although what routes does not follow the table"


DECISIONS: tuple[Callable[[Observation, Decision], Broken], ...] = (
    stable_is_replaced_only_where_nothing_serves,
    an_end_waits_for_what_routes,
)


# --- one write ---------------------------------------------------------------------------------------------


def the_route_follows_the_record(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S4, S5, S7 for the route: its share rises for the open attempt only, up to its record."""
    net, change = before.net, write.change
    if net is None or net.route is None or not isinstance(change, PutRoute) or change.percent <= net.route:
        return None
    pointer, (uid, weight) = before.record.pointer, before.ghost.granted
    if pointer is None or pointer.rollout_uid != uid:
        return f"S4: the route gives {change.percent} % without a record"
    told = f"the route gives {pointer.revision} {change.percent} %"
    if uid in before.ghost.lowered:
        return f"S7: {told}, which was given up"
    if change.percent > weight:
        return f"S4: {told} although the record says {weight}"
    if before.record.is_rejected(pointer.revision) and uid not in before.ghost.undone:
        return f"S5: {told}, which is rejected"
    return None


def the_route_gives_more_only_to_the_right_pods(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S2 for the route: a role gets more only when its Service was seen to reach its own pods and no others."""
    net, change, attempt = before.net, write.change, before.attempt
    if net is None or net.route is None or not isinstance(change, PutRoute) or change.percent == net.route:
        return None
    role = CANARY if change.percent > net.route else STABLE
    wanted = {before.home} if role == STABLE else {attempt.pods if attempt else ""}
    found = {workload for name, workload in before.ghost.selected if name == role}
    is_lost = role == CANARY and attempt is None
    return None if found == wanted or is_lost else f"S2: more for Service {role}, which may reach {found}"


def the_service_follows_the_record(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S4, S7 by replica counts: the Service takes the canary's pods in for the open attempt, alone only at 100 %."""
    net, change, (uid, weight) = before.net, write.change, before.ghost.granted
    if net is None or net.route is not None or not isinstance(change, PutService):
        return None
    is_known = net.get_selected(change.name) == change.workload
    if change.name != CLIENTS or is_known or change.workload == before.home:
        return None
    pointer = before.record.pointer
    if pointer is None or pointer.rollout_uid != uid or not weight or (change.workload and weight < FULL):
        return f"S4: the Service selects {change.workload or 'all'} although the record says {weight}"
    is_lower = net.get_selected(change.name) not in {"", before.home} and not change.workload
    if uid in before.ghost.lowered and not is_lower:
        return f"S7: the Service takes in the pods of {pointer.revision}, which was given up"
    return None


def a_role_keeps_its_pods_while_it_has_weight(before: Cluster, write: Write, _: Cluster) -> Broken:
    """S6: a role Service changes its pods only while no route in use gives it anything, or to stable's own."""
    net, change = before.net, write.change
    if net is None or not isinstance(change, PutService) or change.workload == before.home:
        return None
    percents = before.ghost.routed
    has_weight = {
        STABLE: any(percent < FULL for percent in percents),
        CANARY: any(percent > 0 for percent in percents),
    }
    if has_weight.get(change.name) and net.get_selected(change.name) != change.workload:
        return f"S6: Service {change.name} gets other pods while the route may give it traffic"
    if change.name == CLIENTS and net.route is not None:
        return f"S6: those who do not come through the gateway get to {change.workload or 'all pods'}"
    return None


def pods_in_use_stay(before: Cluster, write: Write, _: Cluster) -> Broken:
    """W6: a Deployment goes only when nothing that is still in use sends anybody to it; never stable's or a trial's."""
    if not isinstance(write.change, PutPods) or write.change.size or before.net is None:
        return None
    workload, attempt = write.change.workload, before.attempt
    if workload == before.home:
        return f"W6: the pods of stable ({workload}) go"
    if attempt is not None and attempt.pods == workload and attempt.record.phase in FORWARD:
        return f"W6: the pods of the canary ({workload}) go while it is {attempt.record.phase}"
    ways = list_ways(before.net, before.ghost.routed, before.ghost.selected)
    if workload in ways | {used for _, _, used in before.ghost.uses}:
        return f"W6: the pods of {workload} go, which are in use"
    return None


WRITES: tuple[Callable[[Cluster, Write, Cluster], Broken], ...] = (
    the_route_follows_the_record,
    the_route_gives_more_only_to_the_right_pods,
    the_service_follows_the_record,
    a_role_keeps_its_pods_while_it_has_weight,
    pods_in_use_stay,
)


# --- one state ---------------------------------------------------------------------------------------------


def who_has_traffic_has_pods(cluster: Cluster) -> Broken:
    """S2: a canary with weight in any table since the last confirmed one has a Deployment."""
    if cluster.net is None:
        return None
    for letter, _, workload in cluster.ghost.uses:
        if workload != cluster.home and cluster.net.find_pods(workload) is None:
            return f"S2: {letter} has traffic and no Deployment of {workload}"
    return None


def stable_keeps_its_pods(cluster: Cluster) -> Broken:
    """S3: until a Promoted record closes stable has all its pods; by replica counts both together have as many."""
    attempt, net = cluster.attempt, cluster.net
    if net is None or attempt is None or not attempt.has_own_pods or attempt.record.phase not in FORWARD:
        return None
    sizes = {pods.workload: pods.size for pods in net.pods}
    kept, own = sizes.get(attempt.origin_pods, 0), sizes.get(attempt.pods, 0)
    if cluster.means.router is Router.REPLICAS:
        kept += own if kept else 0
    return (
        None if kept >= REPLICAS else f"S3: {attempt.origin} has not all its pods while {attempt.to} is tried"
    )


STATES: tuple[Callable[[Cluster], Broken], ...] = (who_has_traffic_has_pods, stable_keeps_its_pods)
