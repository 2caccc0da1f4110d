"""Rules that make the world carry out the record: programs, routing table, children, pods.

They hold in every phase: whoever finds a record finishes its work, whoever deletes an object by hand gets it back.
"""

from collections.abc import Iterable
from dataclasses import replace

from dspy_operator.api.names import SLOTS
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import (
    Archive,
    CreateRevision,
    Decision,
    FillSlot,
    RefreshPods,
    RepairChildren,
    Restamp,
    SetSplit,
)
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.model import DeploymentRecord, Observation, Phase, Program, Share, Split
from dspy_operator.rollout.sizing import get_canary_size, get_next_weight

REFRESH_WAIT = 3.0
"""Seconds until the table is looked for in the pods again."""

LOWERED = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})
"""Phases in which the canary gets nothing."""


def get_measured_now(seen: Observation) -> float:
    """What times of looks and confirmations are compared with: never `now`, which is another server's clock."""
    return seen.now if seen.prometheus_now is None else seen.prometheus_now


def find_stable(seen: Observation) -> Program | None:
    """What the stable revision is and where it lives: its records say it, without them the attempt or the table."""
    known = [*seen.revisions.values()]
    known += [seen.rollout.origin] if seen.rollout else []
    known += [share.program for share in seen.table.split.shares] if seen.table else []
    return pick_stable(seen.record, known)


def pick_stable(record: DeploymentRecord, programs: Iterable[Program]) -> Program | None:
    """The first of the programs that is the stable revision, in the pods that it lives in."""
    stable = record.stable
    if stable is None:
        return None
    found = next((program for program in programs if program.revision == stable.revision), None)
    return replace(found, workload=stable.workload) if found and stable.workload else found


def place(seen: Observation, program: Program, stable: Program) -> Program:
    """The program with the pods that it would live in as a canary: stable's if it may share them, else its own."""
    if seen.isolated:
        return replace(program, workload=program.revision)
    recorded = seen.revisions.get(stable.revision)
    shares = recorded is not None and recorded.workload == program.workload
    return replace(program, workload=stable.workload) if shares else program


def find_wanted_split(seen: Observation) -> Split | None:
    """The routing table that the records ask for; None while stable is not known."""
    stable = find_stable(seen)
    if stable is None:
        return None
    rollout = seen.rollout
    if seen.record.pointer is None or rollout is None or rollout.record.phase in LOWERED:
        leaving = _find_leaving(seen, {stable.workload})
        return Split(Share(stable, find_slot(seen, stable), 100), None, leaving)
    weight = rollout.record.weight
    leaving = _find_leaving(seen, {stable.workload, rollout.to.workload})
    canary = Share(rollout.to, find_slot(seen, rollout.to, avoid=stable), weight)
    return Split(Share(stable, find_slot(seen, stable), 100 - weight), canary, leaving)


def find_slot(seen: Observation, program: Program, *, avoid: Program | None = None) -> int:
    """The slot of a program: where the table has it, else where its bytes are, else a free one."""
    named = seen.table.split.find_slot(program.revision) if seen.table else None
    if named is not None:
        return named
    taken = {share.slot for share in seen.table.split.shares} if seen.table else set()
    if avoid is not None and seen.table is None:
        taken = {find_slot(seen, avoid)}
    if program.sha256 in seen.capacity.slots:
        return seen.capacity.slots.index(program.sha256)
    last = next((seen.revisions[r].sha256 for r in seen.previous if r in seen.revisions), None)
    free = [slot for slot in range(SLOTS) if slot not in taken]
    held = seen.capacity.slots
    return min(free, key=lambda slot: (held[slot] != "", last is not None and held[slot] == last, slot))


def _find_leaving(seen: Observation, staying: set[str]) -> tuple[Share, ...]:
    """Shares of workloads that are going: their pods answer what still reaches them."""
    known = seen.table.split.shares if seen.table else _list_held(seen)
    found: dict[str, Share] = {}
    for share in known:
        workload = share.program.workload
        if workload not in staying and workload in seen.capacity.leaving:
            found.setdefault(workload, replace(share, weight=0))
    return tuple(found.values())


def _list_held(seen: Observation) -> list[Share]:
    """Without a table: every revision whose program is in a slot."""
    slots = seen.capacity.slots
    return [
        Share(program, slots.index(program.sha256), 0)
        for program in seen.revisions.values()
        if program.sha256 in slots
    ]


def is_in_use(seen: Observation, slot: int) -> bool:
    """Whether a pod may still read the slot: the table names it, or an older table may and pods still use that.

    Nobody knows what a table said that is gone.
    """
    if seen.table is None:
        return seen.capacity.slots[slot] != ""
    settled = seen.confirmation.at is not None or seen.confirmation.presumed
    return not settled or slot in {share.slot for share in seen.table.split.shares}


def a_program_is_missing(seen: Observation) -> Decision | None:
    """Keep a copy of each program in use, and put its bytes where the pods read them."""
    wanted = find_wanted_split(seen)
    if wanted is None:
        return None
    for share in (wanted.stable, *((wanted.canary,) if wanted.canary else ())):
        program = share.program
        if program.sha256 not in seen.capacity.available:
            continue
        if program.sha256 not in seen.capacity.archived:
            return build_copying(program, Reason.PREPARING)
        if seen.capacity.slots[share.slot] == program.sha256:
            continue
        repairs = seen.table is not None and seen.table.split.find_slot(program.revision) == share.slot
        if repairs or not is_in_use(seen, share.slot):
            message = f"Handing the program {program.sha256[:12]} to the pods"
            return Decision(Reason.PREPARING, message, action=FillSlot(share.slot, program), wait=0)
    return None


def build_copying(program: Program, reason: Reason) -> Decision:
    """Keep the program's bytes where nobody changes them."""
    return Decision(reason, "Keeping a copy of the program", action=Archive(program), wait=0)


def build_recording(program: Program, reason: Reason) -> Decision:
    """Write down what the revision is, before anything refers to it."""
    message = f"Recording what revision {program.revision} is"
    return Decision(reason, message, action=CreateRevision(program), wait=0)


def table_differs(seen: Observation) -> Decision | None:
    """Write the routing table that the record asks for. Raising needs a canary that every pod has loaded."""
    wanted = find_wanted_split(seen)
    if wanted is None or (seen.table and seen.table.intact and seen.table.split == wanted):
        return None
    if wanted.canary and not may_enter(seen, wanted):
        safe = _find_safe_split(seen, wanted)
        if safe is None:
            return None
        wanted = safe
    record = seen.rollout.record if seen.rollout else None
    number = record.number if record else 0
    name = seen.rollout.name if seen.rollout else ""
    reason, message = record.reason if record else Reason.UPDATING_PODS, "Sending everything to stable"
    if wanted.canary:
        told = f"Sending {wanted.weight} % to the canary"
        message = told if wanted.weight else "Showing the canary's program to the pods, at 0 %"
    return Decision(reason, message, action=SetSplit(wanted, name, number), wait=REFRESH_WAIT)


def _find_safe_split(seen: Observation, wanted: Split) -> Split | None:
    """While the canary may not have its weight: at 0 the pods load it; without its bytes stable serves alone.

    What was edited or deleted by hand must not wait for the canary: it comes back with the weight of now. None: what
    is there must do.
    """
    canary, stable, table = wanted.canary, replace(wanted.stable, weight=100), seen.table
    present = table.split if table else None
    is_whole = table is not None and table.intact
    if canary is not None and seen.capacity.slots[canary.slot] == canary.program.sha256:
        if is_whole and present and present.find_slot(canary.program.revision) is not None:
            return None
        is_there = present and present.canary and present.canary.program == canary.program
        weight = present.weight if present and is_there else 0
        return replace(
            wanted, stable=replace(stable, weight=100 - weight), canary=replace(canary, weight=weight)
        )
    is_lost = present is None or (not is_whole and present.canary is None)
    return Split(stable, None, wanted.leaving) if is_lost else None


def may_enter(seen: Observation, wanted: Split) -> bool:
    """Whether the canary may have its share: less than now always, more once it is ready for that."""
    canary = wanted.canary
    if canary is None:
        return True
    if seen.capacity.slots[canary.slot] != canary.program.sha256:
        return False
    current = seen.table.split.weight if seen.table else 0
    return canary.weight <= current or is_canary_ready(seen)


def is_canary_ready(seen: Observation) -> bool:
    """Whether there is a ready pod and every one has the canary's program loaded.

    Own pods are Ready only with their program: as many as the weight needs, where traffic reaches them. A fast attempt
    goes to a program that served before: while Prometheus is away shared pods are presumed to have it.
    """
    if seen.rollout is None:
        return False
    if seen.rollout.has_own_pods:
        return 0 < get_own_size(seen) <= seen.capacity.own.reachable
    if seen.capacity.ready_pods == 0:
        return False
    load = seen.capacity.loads.get(seen.rollout.to.revision)
    if load is not None and load.state is LoadState.LOADED:
        return True
    return seen.rollout.fast and seen.confirmation.presumed


def get_own_size(seen: Observation) -> int:
    """How many pods of its own the canary must have now."""
    if seen.rollout is None:
        return 0
    return get_canary_size(
        seen.capacity.desired_pods, seen.rollout.plan.routing, get_next_weight(seen.rollout)
    )


def a_child_differs(seen: Observation) -> Decision | None:
    """Create what is missing and revert what was edited."""
    if not seen.capacity.drifted:
        return None
    message = "Applying " + ", ".join(seen.capacity.drifted)
    return Decision(Reason.UPDATING_PODS, message, action=RepairChildren(), wait=0)


def pods_have_not_seen_the_table(seen: Observation) -> Decision | None:
    """Tell the pods (again) that the table has changed: the kubelet alone would take a minute."""
    if seen.confirmation.refreshed or seen.table is None:
        return None
    message = "Waiting until every pod uses the new routing table"
    return Decision(Reason.WEIGHT_NOT_EFFECTIVE, message, action=RefreshPods(), wait=REFRESH_WAIT)


def the_epoch_is_new(seen: Observation) -> Decision | None:
    """A new operator stamps R and T before it decides, so that writes of the old one are refused.

    A table that has to be lowered is stamped with that: to stamp it as it is would bring what routes up to it.
    """
    rollout = seen.rollout
    if rollout is None or not rollout.known:
        return None
    if rollout.record.epoch < seen.epoch:
        record = replace(rollout.record, epoch=seen.epoch)
        return Decision(record.reason, record.message, rollout=record, wait=0)
    is_due = rollout.record.phase is Phase.ROLLING_BACK and seen.table and seen.table.split.weight
    if seen.table and seen.table.epoch < seen.epoch and not is_due:
        return Decision(rollout.record.reason, rollout.record.message, action=Restamp(), wait=0)
    return None
