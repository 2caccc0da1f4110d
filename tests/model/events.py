"""What happens without an operator: users edit and command, pods confirm, fail and refuse, records get lost.

Each event is a pure function of the cluster and says which objects it writes: operators' writes bound to these die.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from tests.model.cluster import EMPTY_RECORD, Attempt, Cluster, Ghost, Given, list_uses
from tests.model.observing import is_loaded

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


def list_events(cluster: Cluster, bounds: Bounds, kind: str) -> Iterator[Event]:
    """Everything of one kind (a field of the budget) that the environment may do here."""
    match kind:
        case "free":
            yield from _list_recoveries(cluster)
        case "refusals":
            yield from _list_refusals(cluster)
        case "outages" if cluster.ready:
            yield Event("no pod is ready", replace(cluster, ready=False))
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
    """Every pod uses T: what older tables said does not matter any more."""
    ghost = replace(cluster.ghost, uses=list_uses(cluster.table))
    return replace(cluster, confirmed=True, ghost=ghost)


def may_confirm(cluster: Cluster) -> bool:
    """Whether the pods can take up T: there is one, a pod is there, and it can load what has weight."""
    if cluster.table is None or cluster.confirmed or not cluster.ready:
        return False
    weighted = [share.program.revision for share in cluster.table.split.shares if share.weight]
    return all(is_loaded(cluster, letter) for letter in weighted)


def _list_recoveries(cluster: Cluster) -> Iterator[Event]:
    if may_confirm(cluster):
        yield Event("every pod uses the table", confirm(cluster))
    if not cluster.ready and cluster.table:
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
