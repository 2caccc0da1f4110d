"""What happens without an operator: users edit and command, pods confirm, fail and refuse, records get lost.

Each event is a pure function of the cluster and says which objects it writes: operators' writes bound to these die.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from tests.model.cluster import EMPTY_RECORD, Attempt, Cluster, Ghost, Given
from tests.model.network import Net, Pods
from tests.model.observing import is_loaded, list_using
from tests.model.settling import remember, settle

from dspy_operator.api.names import Command

FREE = "free"
"""The kind of event that may always happen."""


class Budget(NamedTuple):
    """How often each kind of event may still happen; `free` are those that always may."""

    free: int = 0
    edits: int = 0
    commands: int = 0
    refusals: int = 0
    losses: int = 0
    outages: int = 0
    deletions: int = 0
    deaths: int = 0
    hands: int = 0
    takeovers: int = 0


@dataclass(frozen=True)
class Bounds:
    """What may happen in one check, beside crashes, late and lost writes and Prometheus, which always may.

    `specs`: what the user may ask for. `spoils`, `pauses`: whether an edit may also make the spec unreadable or change
    `spec.paused`.
    """

    budget: Budget
    specs: str = "abc"
    commands: tuple[Command, ...] = tuple(Command)
    spoils: bool = False
    pauses: bool = False


@dataclass(frozen=True)
class Event:
    """What happens, and which objects it writes."""

    label: str
    after: Cluster
    touched: tuple[str, ...] = ()


def list_events(  # noqa: C901  one arm for each kind
    cluster: Cluster, bounds: Bounds, kind: str
) -> Iterator[Event]:
    """Everything of one kind (a field of the budget) that the environment may do here."""
    match kind:
        case "free":
            yield from _list_recoveries(cluster)
        case "refusals":
            yield from _list_refusals(cluster)
        case "outages" if cluster.net and cluster.ready_pods:
            yield Event("no pod of stable is ready", _change_ready(cluster, cluster.net, cluster.home, 0))
        case "outages" if cluster.net is None and cluster.ready:
            yield Event("no pod is ready", replace(cluster, ready=False))
        case "deaths" if cluster.net:
            yield from _list_deaths(cluster, cluster.net)
        case "hands" if cluster.net and cluster.net.route is not None and _has_weight(cluster):
            yield from _list_hands(cluster, cluster.net)
        case "edits" if not cluster.deleted:
            yield from _list_edits(cluster, bounds)
        case "commands" if not cluster.deleted:
            yield from (Event(f"`{c}` is given", give(cluster, c), ("D",)) for c in bounds.commands)
        case "losses" if not cluster.deleted:
            yield from _list_losses(cluster)
        case "deletions" if not cluster.deleted:
            yield Event("D is deleted", replace(cluster, deleted=True), ("D",))
        case _:
            return


def confirm(cluster: Cluster) -> Cluster:
    """Every pod uses T: what older tables said does not matter any more, once what routes follows as well."""
    return settle(replace(cluster, confirmed=True))


def may_confirm(cluster: Cluster) -> bool:
    """Whether the pods can take up T: there is one, a pod is there, and it can load what has weight."""
    if cluster.table is None or cluster.confirmed or not list_using(cluster):
        return False
    weighted = [share.program.revision for share in cluster.table.split.shares if share.weight]
    return all(is_loaded(cluster, letter) for letter in weighted)


def list_follow_ups(cluster: Cluster) -> Iterator[Event]:
    """What happens to own pods by itself, if nothing is broken: they get ready, gateway and endpoints follow."""
    net = cluster.net
    if net is None:
        return
    for pods in net.pods:
        if pods.ready < pods.size:
            label = f"the pods of {pods.workload} are ready"
            yield Event(label, _change_ready(cluster, net, pods.workload, pods.size))
    if not net.taken:
        after = replace(cluster, net=replace(net, taken=True))
        yield Event("the gateway follows the route", after)
    if not net.reached:
        after = replace(cluster, net=replace(net, reached=True))
        yield Event("the Services reach their pods", after)


def _change_ready(cluster: Cluster, net: Net, workload: str, ready: int) -> Cluster:
    found = net.find_pods(workload)
    size = found.size if found else 0
    return replace(cluster, net=net.with_pods(Pods(workload, size, ready)))


def _list_deaths(cluster: Cluster, net: Net) -> Iterator[Event]:
    for pods in net.pods:
        if pods.ready and pods.workload != cluster.home:
            label = f"all pods of {pods.workload} die"
            yield Event(label, _change_ready(cluster, net, pods.workload, 0))


def _has_weight(cluster: Cluster) -> bool:
    return cluster.attempt is not None and cluster.attempt.record.weight > 0


def _list_hands(cluster: Cluster, net: Net) -> Iterator[Event]:
    """A person edits the route; a Service whose change was decided before that is not written any more.

    Nothing binds a Service's change to the route, so a hand on it just between reading and writing is not modelled, nor
    one on an attempt that opens or prepares (docs/reliability.md, Known limit).
    """
    touched = ("route", *(f"service {name}" for name, _ in net.services))
    for percent in (0, 50):
        if percent != net.route:
            after = remember(replace(cluster, net=net.with_route(percent)))
            yield Event(f"a person sets the route to {percent} %", after, touched)


def _list_recoveries(cluster: Cluster) -> Iterator[Event]:
    if may_confirm(cluster):
        yield Event("every pod uses the table", confirm(cluster))
    yield from list_follow_ups(cluster)
    if cluster.net is None and not cluster.ready and cluster.table:
        yield Event("the pods are ready", replace(cluster, ready=True))


def _list_refusals(cluster: Cluster) -> Iterator[Event]:
    attempt = cluster.attempt
    if attempt and attempt.to not in cluster.refused:
        refused = cluster.refused | {attempt.to}
        yield Event(f"the pods refuse {attempt.to}", replace(cluster, refused=refused))


def _list_edits(cluster: Cluster, bounds: Bounds) -> Iterator[Event]:
    for spec in bounds.specs:
        if spec != cluster.spec:
            yield Event(f"the spec asks for {spec}", replace(cluster, spec=spec), ("D",))
    if bounds.spoils and cluster.spec:
        yield Event("the spec cannot be read", replace(cluster, spec=""), ("D",))
    if bounds.pauses:
        word = "resumes" if cluster.paused else "pauses"
        yield Event(f"the spec {word}", replace(cluster, paused=not cluster.paused), ("D",))


def _list_losses(cluster: Cluster) -> Iterator[Event]:
    attempt = cluster.attempt
    if attempt is None:
        return
    target = f"R {attempt.uid}"
    without = tuple(a for a in cluster.attempts if a is not attempt)
    yield Event(f"{target} is deleted", replace(cluster, attempts=without), (target,))
    empty = replace(attempt, record=EMPTY_RECORD)
    wiped = tuple(empty if a is attempt else a for a in cluster.attempts)
    ghost = _mark_lost(cluster, attempt) if _is_table_ahead(cluster, attempt) else _forget(cluster, attempt)
    yield Event(f"the status of {target} is wiped", replace(cluster, attempts=wiped, ghost=ghost), (target,))


def _is_table_ahead(cluster: Cluster, attempt: Attempt) -> bool:
    """Whether T still shows that there was a record."""
    table = cluster.table
    return table is not None and table.rollout == attempt.name and table.number > 0


def _mark_lost(cluster: Cluster, attempt: Attempt) -> Ghost:
    return replace(cluster.ghost, lost=cluster.ghost.lost | {attempt.uid})


def _forget(cluster: Cluster, attempt: Attempt) -> Ghost:
    """Nothing in the cluster tells any more what the record said: then the attempt may begin again."""
    ghost = cluster.ghost
    nonces = {nonce for handled in attempt.record.handled.values() for nonce in handled}
    return replace(ghost, lowered=ghost.lowered - {attempt.uid}, acted=ghost.acted - nonces)


def give(cluster: Cluster, command: Command) -> Cluster:
    """Annotate: a newer nonce of the same command replaces the older one."""
    pointer = cluster.record.pointer
    number = max((given.number for given in cluster.given), default=0) + 1
    given = Given(command, number, pointer.rollout_uid if pointer else "")
    kept = tuple(g for g in cluster.given if g.command is not command)
    return replace(cluster, given=(*kept, given))
