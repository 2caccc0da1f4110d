"""From a decision to its writes in the executor's order, and from a write to the cluster after it.

Mirrors `reconcile/record.py` and `reconcile/execute.py`: the record first, then at most one effect; every write is
bound to the object that the pass has read, except a POST, which fails where something is already.
"""

from dataclasses import dataclass, replace
from typing import assert_never

from tests.model.cluster import (
    Attempt,
    Cluster,
    list_uses,
    normalise_deployment,
    normalise_rollout,
)
from tests.model.network import CLIENTS, Pods, find_wanted, list_routed, look_at
from tests.model.observing import copy_name, find_stable
from tests.model.settling import remember

from dspy_operator.rollout.actions import (
    Action,
    Archive,
    CreateRevision,
    CreateRollout,
    Decision,
    DeleteRollout,
    FillSlot,
    Prune,
    RefreshPods,
    RemoveGate,
    RemoveWorkload,
    RepairChildren,
    Restamp,
    RunGate,
    SetSplit,
)
from dspy_operator.rollout.model import DeploymentRecord, Observation, Phase, RolloutRecord, Split, Table


@dataclass(frozen=True)
class WriteD:
    """The durable part of D's status."""

    record: DeploymentRecord


@dataclass(frozen=True)
class WriteR:
    """The status of the attempt with this uid."""

    uid: str
    record: RolloutRecord


@dataclass(frozen=True)
class WriteT:
    """The routing table; `stamp_only` keeps its generation."""

    table: Table
    stamp_only: bool = False


@dataclass(frozen=True)
class Fill:
    """A program's bytes in a slot."""

    slot: int
    letter: str


@dataclass(frozen=True)
class CreateR:
    """A new attempt, without uid yet."""

    attempt: Attempt


@dataclass(frozen=True)
class DeleteR:
    """An attempt goes."""

    name: str


@dataclass(frozen=True)
class ChangeKept:
    """A ControllerRevision (`kind` V) or a copy of a program comes or goes."""

    kind: str
    letter: str
    comes: bool


@dataclass(frozen=True)
class Tell:
    """Annotations on the pods."""


@dataclass(frozen=True)
class PutRoute:
    """The HTTPRoute; `percent`: what the canary's Service gets."""

    percent: int


@dataclass(frozen=True)
class PutService:
    """A Service of the pods of one workload, empty: of all; None: it goes."""

    name: str
    workload: str | None


@dataclass(frozen=True)
class PutPods:
    """A Deployment with so many pods; none: it goes."""

    workload: str
    size: int


Change = (
    WriteD | WriteR | WriteT | Fill | CreateR | DeleteR | ChangeKept | Tell | PutRoute | PutService | PutPods
)


@dataclass(frozen=True)
class Write:
    """One request. `target` is the object; not `bound`: a POST, or an annotation on pods."""

    target: str
    bound: bool
    change: Change


def list_writes(seen: Observation, decision: Decision, cluster: Cluster) -> tuple[Write, ...]:
    """The writes of one pass in their order."""
    writes: list[Write] = []
    if decision.deployment is not None:
        writes.append(Write("D", bound=True, change=WriteD(normalise_deployment(decision.deployment))))
    elif decision.rollout is not None and cluster.attempt is not None:
        uid = cluster.attempt.uid
        change = WriteR(uid, normalise_rollout(decision.rollout))
        writes.append(Write(f"R {uid}", bound=True, change=change))
    if decision.action is not None:
        writes += _list_effects(decision.action, seen, cluster)
    return tuple(writes)


def _list_effects(  # noqa: C901, PLR0911, PLR0912  one arm for each action
    action: Action, seen: Observation, cluster: Cluster
) -> list[Write]:
    match action:
        case CreateRevision(program):
            return [_keep("V", program.revision, comes=True)]
        case Archive(program):
            return [_keep("copy", program.revision, comes=True)]
        case CreateRollout():
            return [_create_attempt(action)]
        case DeleteRollout(name):
            return [_delete_attempt(cluster, name)]
        case FillSlot(slot, program):
            return [Write(f"slot {slot}", bound=True, change=Fill(slot, program.revision))]
        case SetSplit(split, rollout, number):
            table = Table(split, 0, rollout, number, seen.epoch)
            write = Write("T", bound=cluster.table is not None, change=WriteT(table))
            return [write, *_list_routed(split, seen, cluster)]
        case Restamp():
            if cluster.table is None:
                return []
            stamped = replace(cluster.table, epoch=seen.epoch, intact=True)
            write = Write("T", bound=True, change=WriteT(stamped, stamp_only=True))
            return order_stamps(_list_routed(cluster.table.split, seen, cluster), write)
        case RefreshPods():
            return [Write("pods", bound=False, change=Tell())]
        case Prune():
            return _list_pruned(action, cluster)
        case RepairChildren():
            return _list_repairs(seen, cluster)
        case RemoveWorkload(workload):
            return [Write(f"pods {workload}", bound=True, change=PutPods(workload, 0))]
        case RunGate() | RemoveGate():
            raise AssertionError(f"the model has no {action}")
        case _:
            assert_never(action)


def _list_routed(split: Split, seen: Observation, cluster: Cluster) -> list[Write]:
    """What routes to own pods follows the table in the same effect; a new epoch is stamped on it too."""
    if cluster.net is None:
        return []
    again = bool(seen.table and seen.table.epoch < seen.epoch)
    side = look_at(cluster.means, seen.rollout, split)
    writes = []
    for name, value in list_routed(cluster.net, side, split, again):
        if isinstance(value, int):
            writes.append(Write("route", bound=True, change=PutRoute(value)))
        else:
            writes.append(_put_service(cluster, name, value))
    return writes


def order_stamps(routed: list[Write], table: Write) -> list[Write]:
    """By the stamp of the table all of it counts as stamped."""
    return [*routed, table]


def _put_service(cluster: Cluster, name: str, workload: str | None) -> Write:
    known = cluster.net is not None and cluster.net.get_selected(name) is not None
    return Write(f"service {name}", bound=known, change=PutService(name, workload))


def _list_repairs(seen: Observation, cluster: Cluster) -> list[Write]:
    """In the executor's order: Services, those that are too many, Deployments."""
    net, split = cluster.net, seen.table.split if seen.table else None
    if net is None:
        return []
    wanted = find_wanted(net, look_at(cluster.means, seen.rollout, split), find_stable(cluster), split)
    live = dict(net.services)
    changed = [(name, workload) for name, workload in wanted.services if live.get(name) != workload]
    extra = [(name, None) for name in live if name not in dict(wanted.services)]
    sizes = {pods.workload: pods.size for pods in net.pods}
    return [
        *(_put_service(cluster, name, workload) for name, workload in (*changed, *extra)),
        *(
            Write(f"pods {workload}", bound=workload in sizes, change=PutPods(workload, size))
            for workload, size in wanted.pods
            if sizes.get(workload) != size
        ),
    ]


def _list_pruned(action: Prune, cluster: Cluster) -> list[Write]:
    """In the executor's order: attempts, copies, revisions."""
    copies = {copy_name(letter): letter for letter in cluster.archived}
    return [
        *(_delete_attempt(cluster, name) for name in action.rollouts),
        *(_keep("copy", copies[name], comes=False) for name in action.config_maps),
        *(_keep("V", letter, comes=False) for letter in action.revisions),
    ]


def _keep(kind: str, letter: str, *, comes: bool) -> Write:
    return Write(f"{kind} {letter}", bound=not comes, change=ChangeKept(kind, letter, comes))


def _create_attempt(action: CreateRollout) -> Write:
    to, origin, name = action.to, action.origin, f"{action.to.revision}-{action.attempt}"
    attempt = Attempt(
        name, "", origin.revision, to.revision, action.fast, origin_pods=origin.workload, pods=to.workload
    )
    return Write(f"R {name}", bound=False, change=CreateR(attempt))


def _delete_attempt(cluster: Cluster, name: str) -> Write:
    uid = next(attempt.uid for attempt in cluster.attempts if attempt.name == name)
    return Write(f"R {uid}", bound=True, change=DeleteR(name))


def land(cluster: Cluster, write: Write) -> Cluster | None:  # noqa: C901, PLR0911  one arm for each change
    """The cluster after the API server has taken a write; None when it refuses it: what is there is not expected."""
    match write.change:
        case WriteD(record):
            return replace(cluster, record=record)
        case WriteR(uid, record):
            return _land_record(cluster, uid, record)
        case WriteT(table, stamp_only):
            if cluster.table is not None and not write.bound:
                return None
            return land_table(cluster, table, stamp_only=stamp_only)
        case Fill(slot, letter):
            one, two, three = (letter if n == slot else held for n, held in enumerate(cluster.slots))
            return replace(cluster, slots=(one, two, three))
        case CreateR(attempt):
            return _land_attempt(cluster, attempt)
        case DeleteR(name):
            return replace(cluster, attempts=tuple(a for a in cluster.attempts if a.name != name))
        case ChangeKept(kind, letter, comes):
            return _land_kept(cluster, kind, letter, comes=comes)
        case Tell():
            return replace(cluster, refreshed=True)
        case PutRoute() | PutService() | PutPods():
            return _land_net(cluster, write)
        case _:
            assert_never(write.change)


def _land_net(cluster: Cluster, write: Write) -> Cluster | None:
    """What routes is changed at once; when the gateway and the endpoints follow is seen later."""
    net, change = cluster.net, write.change
    if net is None:
        return None
    match change:
        case PutRoute(percent):
            net = net.with_route(percent)
        case PutService(name, workload):
            if not write.bound and net.get_selected(name) is not None:
                return None
            net = net.with_service(name, workload)
        case PutPods(workload, size):
            found = net.find_pods(workload)
            if (found is None) is write.bound:
                return None
            ready = min(found.ready, size) if found else 0
            net = net.with_pods(Pods(workload, size, ready)) if size else net.without_pods(workload)
    return remember(replace(cluster, net=net))


def land_table(cluster: Cluster, table: Table, *, stamp_only: bool = False) -> Cluster:
    """The pods are told; that they use a new generation is seen later."""
    ghost = replace(cluster.ghost, uses=cluster.ghost.uses | list_uses(table))
    confirmed = cluster.confirmed and stamp_only
    return replace(cluster, table=table, confirmed=confirmed, refreshed=True, ghost=ghost)


def _land_record(cluster: Cluster, uid: str, record: RolloutRecord) -> Cluster | None:
    if cluster.find_attempt(uid) is None:
        return None
    attempts = tuple(replace(a, record=record) if a.uid == uid else a for a in cluster.attempts)
    ghost, pointer = cluster.ghost, cluster.record.pointer
    if pointer is not None and pointer.rollout_uid == uid:  # a late stamp on a closed attempt grants nothing
        ghost = replace(ghost, granted=(uid, record.weight))
    if record.phase is Phase.ROLLING_BACK or record.phase.is_end:
        ends = dict(cluster.ghost.ends) | ({uid: record.phase} if record.phase.is_end else {})
        ghost = replace(ghost, lowered=ghost.lowered | {uid}, ends=frozenset(ends.items()))
    changed = replace(cluster, attempts=attempts, ghost=ghost)
    name = next(a.name for a in attempts if a.uid == uid)
    if record.phase.is_end and name not in cluster.ended:
        changed = replace(changed, ended=(name, *cluster.ended))
    return changed


def _land_attempt(cluster: Cluster, attempt: Attempt) -> Cluster | None:
    if any(found.name == attempt.name for found in cluster.attempts):
        return None
    known = {found.uid for found in cluster.attempts} | cluster.ghost.lowered
    pointer = cluster.record.pointer
    known |= {pointer.rollout_uid} if pointer else set()
    known |= {given.attempt for given in cluster.given}
    number = next(n for n in range(1, 100) if f"{attempt.name}#{n}" not in known)
    made = replace(attempt, uid=f"{attempt.name}#{number}")
    return replace(cluster, attempts=(*cluster.attempts, made))


def _land_kept(cluster: Cluster, kind: str, letter: str, *, comes: bool) -> Cluster | None:
    held = cluster.revisions if kind == "V" else cluster.archived
    if comes and letter in held:
        return None
    after = held | {letter} if comes else held - {letter}
    return replace(cluster, revisions=after) if kind == "V" else replace(cluster, archived=after)


def describe(write: Write) -> str:  # noqa: C901, PLR0911  one arm for each change
    """One line of a trace."""
    match write.change:
        case WriteD(record):
            stable = record.stable.revision if record.stable else "-"
            pointer = f", pointer {record.pointer.rollout_uid}" if record.pointer else ""
            rejected = "".join(entry.revision for entry in record.rejected)
            return f"D: stable {stable}, rejected {rejected or '-'}{pointer}"
        case WriteR(uid, record):
            step = f" step {record.step}" if record.step else ""
            ends = f" ({record.outcome})" if record.outcome else ""
            return f"R {uid}: {record.phase}{step}{ends}, weight {record.weight}, epoch {record.epoch}"
        case WriteT(table, stamp_only):
            shares = ", ".join(f"{share.program.revision} {share.weight}" for share in table.split.shares)
            return f"T: {shares}, epoch {table.epoch}{' (stamp only)' if stamp_only else ''}"
        case Fill(slot, letter):
            return f"slot {slot} = {letter}"
        case CreateR(attempt):
            return f"R {attempt.name} is created{' (fast)' if attempt.fast else ''}"
        case DeleteR(name):
            return f"R {name} is deleted"
        case ChangeKept(kind, letter, comes):
            return f"{kind} {letter} {'is created' if comes else 'is deleted'}"
        case Tell():
            return "the pods are told"
        case PutRoute(percent):
            return f"the route: {percent} % to the canary's Service"
        case PutService(name, workload):
            told = "goes" if workload is None else f"selects {workload or 'all'}"
            return f"Service {name.removeprefix(f'{CLIENTS}-')} {told}"
        case PutPods(workload, size):
            return f"{workload}: {size} pods" if size else f"{workload}: its Deployment goes"
        case _:
            assert_never(write.change)
