"""No attempt is open: the first revision, a settled deployment, and what opens an attempt."""

from collections.abc import Iterator
from dataclasses import replace

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import (
    CreateRevision,
    CreateRollout,
    Decision,
    DeleteRollout,
    Notice,
    Prune,
    RemoveWorkload,
)
from dspy_operator.rollout.capacity import ArtifactState
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.ending import build_rejected
from dspy_operator.rollout.gate import first_revision_waits
from dspy_operator.rollout.judging.wording import get_duration
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Observation,
    Phase,
    Pointer,
    Program,
    Refusal,
    Rejected,
    Stable,
    Target,
)
from dspy_operator.rollout.orders import build_handled, find_order, find_undo_revision, is_held_by_a_person
from dspy_operator.rollout.retention import find_prunable
from dspy_operator.rollout.world import REFRESH_WAIT, build_copying, build_recording, find_stable, place

UNFIT = (
    Reason.DIGEST_MISMATCH,
    Reason.ARTIFACT_REFUSED,
    Reason.SIGNATURE_MISMATCH,
    Reason.MODULE_NOT_LOADABLE,
    Reason.REGRESSION_FAILED,
    Reason.QUOTA_EXCEEDED,
    Reason.GATEWAY_NOT_READY,
    Reason.CANARY_DEAD,
)
"""The conditions go on naming what is wrong: with the artifact, or with the pods of the canary's own."""
DOWN_FOR = 60.0
"""Seconds without a ready pod after which stable is nothing that a canary could be compared with."""
_PRESENT = "waiting until every pod uses the present table"
ARTIFACT_WAIT = 5.0
"""Seconds until a missing artifact is looked for again; nothing tells when it comes."""


def has_no_stable_revision(seen: Observation) -> Decision | None:
    """The first revision becomes stable without analysis; after a lost status the table says what stable was."""
    if seen.record.stable is not None:
        return None
    if seen.table is not None and seen.table.split.stable.program.revision in seen.revisions:
        program = seen.table.split.stable.program
        stable = Stable(program.revision, program.sha256, format_time(seen.now), program.workload)
        record = replace(_note_old_orders(seen), stable=stable, rejected=tuple(_list_rejected(seen)))
        return Decision(
            Reason.INITIALIZING, f"Found revision {program.revision} serving", deployment=record, wait=0
        )
    return _find_obstacle(seen) or first_revision_waits(seen) or _record_first(seen)


def _note_old_orders(seen: Observation) -> DeploymentRecord:
    """Commands that stand in a resource without a status are old: restored with it, or handled before it was wiped.

    They are noted as handled and do not act again; the latest of pause and resume goes on being so.
    """
    return replace(seen.record, handled=build_handled(seen.record.handled, seen.orders))


def _list_rejected(seen: Observation) -> Iterator[Rejected]:
    """What the attempts say is rejected: those that failed since the last promotion, and one that was open.

    Also what an undo left while the spec still asks for it: the spec did not go back, so a person did.
    """
    attempts = sorted((*seen.stock.attempts, *seen.stock.unfinished), key=lambda past: past.ended_at)
    promoted = max((n for n, past in enumerate(attempts) if past.phase is Phase.PROMOTED), default=-1)
    failed = (past for past in attempts[promoted + 1 :] if past.phase is not Phase.SUPERSEDED)
    for past in {past.to: past for past in failed}.values():
        if past.phase.is_end:
            message = f"Attempt {past.name} ended as {past.phase}"
            yield build_rejected(seen, past.to, past.phase, message, past.ended_at)
        else:
            message = f"Attempt {past.name} was open when the status of this resource was lost"
            yield build_rejected(seen, past.to, Reason.RECORD_LOST, message, seen.now)
    last = attempts[promoted] if promoted >= 0 else None
    asked = seen.target.program.revision if isinstance(seen.target, Target) else ""
    if last and last.fast and last.origin == asked:
        message = f"Undone by a person: back to revision {last.to}"
        yield build_rejected(seen, asked, Reason.UNDONE, message, last.ended_at)


def stable_was_never_ready(seen: Observation) -> Decision | None:
    """Until the first revision has served, a new spec replaces it directly."""
    stable, target = seen.record.stable, seen.target
    if stable is None or stable.promoted_at or seen.capacity.ready_pods > 0 or not isinstance(target, Target):
        return None
    if target.program.revision == stable.revision:
        return None
    if target.artifact is not ArtifactState.READY:
        return None
    return first_revision_waits(seen) or _record_first(seen)


def _record_first(seen: Observation) -> Decision:
    target = _get_target(seen)
    program = target.program
    if program.revision not in seen.revisions:
        return build_recording(program, Reason.INITIALIZING)
    before = _note_old_orders(seen) if seen.record.stable is None else seen.record
    workload = program.revision if seen.isolated else program.workload
    record = replace(before, stable=Stable(program.revision, program.sha256, workload=workload))
    message = f"Starting the first revision, {program.revision}"
    return Decision(Reason.INITIALIZING, message, deployment=record, wait=0)


def stable_revision_is_not_recorded(seen: Observation) -> Decision | None:
    """The ControllerRevision of stable was deleted by hand: written again if anything still says what it was."""
    stable = seen.record.stable
    program = seen.restorable.get(stable.revision) if stable else None
    if program is None:
        return None
    message = f"Recording revision {program.revision} again"
    return Decision(Reason.HEALTHY, message, action=CreateRevision(program), wait=0)


def stable_revision_is_lost(seen: Observation) -> Decision | None:
    """Nothing else has its workload, the spec neither: only a person knows what the pods of stable ran."""
    stable = seen.record.stable
    if stable is None or stable.revision in seen.revisions:
        return None
    message = (
        f"The ControllerRevision of stable revision {stable.revision} is gone, and nothing else says what its pods "
        f"run; they go on. Apply the spec of program {stable.sha256[:12]} once more, then any other"
    )
    return Decision(Reason.REVISION_NOT_FOUND, message)


def first_pod_is_ready(seen: Observation) -> Decision | None:
    """From now on stable is a revision that has served."""
    stable = seen.record.stable
    if stable is None or stable.promoted_at or seen.capacity.ready_pods == 0:
        return None
    record = replace(seen.record, stable=replace(stable, promoted_at=format_time(seen.now)))
    message = f"Revision {stable.revision} serves"
    return Decision(
        Reason.HEALTHY, message, deployment=record, notices=(Notice(Reason.PROMOTED, message),), wait=0
    )


def an_attempt_has_no_pointer(seen: Observation) -> Decision | None:
    """An opening that crashed half way and is not wanted any more, or a record that a lost status left behind."""
    if not seen.orphans:
        return None
    return _delete_attempt(seen.orphans[0])


def _delete_attempt(name: str) -> Decision:
    message = f"Removing attempt {name}, which nothing points to"
    return Decision(Reason.HEALTHY, message, action=DeleteRollout(name), wait=0)


def a_workload_is_unused(seen: Observation) -> Decision | None:
    """Pods that stable does not live in go once nothing is sent there: its present ones use the table, and what routes.

    A first revision that never served leaves nothing worth keeping.
    """
    capacity, stable = seen.capacity, seen.record.stable
    if not capacity.leaving:
        return None
    if stable and not stable.promoted_at:
        action = RemoveWorkload(capacity.leaving[0])
        return Decision(Reason.INITIALIZING, "Removing pods that never served", action=action, wait=0)
    is_wanted = capacity.ready_pods > 0 or capacity.desired_pods > 0
    if is_wanted and not is_settled(seen):
        if capacity.denied:
            return _describe_denial(seen)
        return _describe_leaving(seen)
    action = RemoveWorkload(capacity.leaving[0])
    return Decision(
        Reason.UPDATING_PODS, f"Removing the pods of workload {capacity.leaving[0]}", action=action, wait=0
    )


def _describe_leaving(seen: Observation) -> Decision:
    """What keeps pods that nothing should reach any more."""
    capacity, confirmation = seen.capacity, seen.confirmation
    counted = f"{capacity.ready_pods} of {capacity.desired_pods} pods are ready"
    waited = confirmation.message or (counted if capacity.ready_pods < capacity.desired_pods else _PRESENT)
    is_refused = confirmation.message and not confirmation.is_settling and seen.table and seen.table.intact
    reason = Reason.GATEWAY_NOT_READY if is_refused else Reason.UPDATING_PODS
    message = f"Before the pods of workload {capacity.leaving[0]} go: {waited}"
    return Decision(reason, message, wait=ARTIFACT_WAIT if is_refused else REFRESH_WAIT)


def undo_is_asked_for(seen: Observation) -> Decision | None:
    """Back to an earlier promoted revision, without steps."""
    order = find_order(seen, Command.UNDO)
    revision = find_undo_revision(seen, order) if order else None
    return _open(seen, seen.revisions[revision], fast=True) if revision else None


def the_spec_cannot_be_done(seen: Observation) -> Decision | None:
    """Say which field is wrong; stable keeps serving."""
    if not isinstance(seen.target, Refusal):
        return None
    if seen.pending is not None:
        return _delete_attempt(seen.pending.name)
    return Decision(seen.target.reason, seen.target.message, wait=ARTIFACT_WAIT * 6)


def the_spec_is_stable(seen: Observation) -> Decision | None:
    """Nothing to do."""
    target, stable = _get_target(seen), seen.record.stable
    if stable is None or target.program.revision != stable.revision:
        return None
    if seen.pending is not None:
        return _delete_attempt(seen.pending.name)
    if not stable.promoted_at or seen.capacity.ready_pods == 0 or seen.capacity.denied:
        return _describe_start(seen, target.program)
    message = f"Revision {stable.revision} (program {stable.sha256[:12]}) serves"
    if not is_settled(seen):
        return _describe_unsettled(seen, message)
    old = _find_old_things(seen, target.program)
    return Decision(Reason.HEALTHY, message, action=old, wait=None if old is None else 0)


def _describe_unsettled(seen: Observation, message: str) -> Decision:
    """Not every pod uses the present table yet, or what routes does not follow it: only that matters to people."""
    if seen.confirmation.message and not seen.confirmation.is_settling:
        told = f"{message}; {seen.confirmation.message}"
        return Decision(Reason.GATEWAY_NOT_READY, told, wait=ARTIFACT_WAIT)
    return Decision(Reason.HEALTHY, message, wait=REFRESH_WAIT)


def _find_old_things(seen: Observation, program: Program) -> Prune | None:
    """What nobody will ask for again: only while all is calm, so that nothing that is being made is in the way."""
    shares = seen.table.split.shares if seen.table else ()
    in_use = {program.revision, *(share.program.revision for share in shares)}
    return find_prunable(seen.name, seen.stock, frozenset(in_use))


def _describe_start(seen: Observation, program: Program) -> Decision:
    if seen.capacity.denied:
        return _describe_denial(seen)
    load = seen.capacity.loads.get(program.revision)
    if load and load.message:
        return Decision(load.reason, load.message, wait=REFRESH_WAIT)
    ready, desired = seen.capacity.ready_pods, seen.capacity.desired_pods
    never = seen.record.stable is not None and not seen.record.stable.promoted_at
    reason = Reason.INITIALIZING if never else Reason.PODS_NOT_READY
    if desired == 0:
        return Decision(reason, "Scaled to 0 pods")
    return Decision(reason, f"{ready} of {desired} pods are ready", wait=REFRESH_WAIT)


def _describe_denial(seen: Observation) -> Decision:
    """Only a person can make room; the pods that there are go on serving."""
    ready, desired, denied = seen.capacity.ready_pods, seen.capacity.desired_pods, seen.capacity.denied
    message = f"{ready} of {desired} pods are ready and the API server lets no more be made: {denied[:500]}"
    return Decision(Reason.QUOTA_EXCEEDED, message, wait=ARTIFACT_WAIT * 6)


def the_spec_is_rejected(seen: Observation) -> Decision | None:
    """A rejected revision is inert until `retry`, or until another one was promoted."""
    revision = _get_target(seen).program.revision
    entry = next((entry for entry in seen.record.rejected if entry.revision == revision), None)
    if entry is None:
        return None
    if seen.pending is not None:
        return _delete_attempt(seen.pending.name)
    why = f": {entry.message.rstrip('.')}" if entry.message else ""
    message = f"Revision {revision} was rejected at {entry.at} ({entry.reason}){why}; `retry` tries it again"
    reason = next((unfit for unfit in UNFIT if unfit == entry.reason), Reason.ROLLED_BACK)
    return Decision(reason, message, wait=None if is_settled(seen) else REFRESH_WAIT)


def the_artifact_is_not_there(seen: Observation) -> Decision | None:
    """No attempt without the right bytes."""
    return _find_obstacle(seen)


def _find_obstacle(seen: Observation) -> Decision | None:
    target = seen.target
    if isinstance(target, Refusal):
        return Decision(target.reason, target.message, wait=ARTIFACT_WAIT * 6)
    match _get_target(seen).artifact:
        case ArtifactState.READY:
            return None
        case ArtifactState.MISSING:
            target = _get_target(seen)
            reason = Reason.ARTIFACT_NOT_FOUND if target.missing_long else Reason.WAITING_FOR_ARTIFACT
            return Decision(reason, target.message, wait=ARTIFACT_WAIT * (6 if target.missing_long else 1))
        case ArtifactState.MISMATCH:
            return Decision(Reason.DIGEST_MISMATCH, _get_target(seen).message, wait=ARTIFACT_WAIT)


def nothing_serves(seen: Observation) -> Decision | None:
    """No pod of stable has been ready for a while, and the spec asks for other pods: there is nothing to compare with.

    They start without a trial, and a warning says so.
    """
    target, stable, capacity = _get_target(seen), find_stable(seen), seen.capacity
    if stable is None or capacity.ready_pods or not capacity.desired_pods or _is_paused(seen):
        return None
    placed = place(seen, target.program, stable)
    if placed.workload == stable.workload or capacity.down_for < DOWN_FOR:
        return None
    program = target.program
    if program.sha256 not in capacity.archived:
        return build_copying(program, Reason.UPDATING_PODS)
    if program.revision not in seen.revisions:
        return build_recording(program, Reason.UPDATING_PODS)
    now = format_time(seen.now)
    record = replace(seen.record, stable=Stable(program.revision, program.sha256, now, placed.workload))
    message = (
        f"No pod of stable revision {stable.revision} has been ready for {get_duration(DOWN_FOR)}: "
        f"revision {program.revision} replaces it without a trial"
    )
    notice = Notice(Reason.NOT_CANARIED, message, warning=True)
    return Decision(Reason.UPDATING_PODS, message, deployment=record, notices=(notice,), wait=0)


def it_is_paused(seen: Observation) -> Decision | None:
    """Paused deployments open nothing."""
    if not _is_paused(seen):
        return None
    revision = _get_target(seen).program.revision
    return Decision(Reason.PAUSED, f"Paused: revision {revision} waits until it is resumed")


def the_weight_cannot_be_reached(seen: Observation) -> Decision | None:
    """Own pods whose numbers cannot come near a step's weight: no attempt, and what would help."""
    target, stable = _get_target(seen), find_stable(seen)
    if not target.unreachable or target.in_window or stable is None:
        return None
    if place(seen, target.program, stable).workload == stable.workload:
        return None
    if seen.pending is not None:
        return _delete_attempt(seen.pending.name)
    return Decision(Reason.WEIGHT_NOT_REACHABLE, target.unreachable, wait=ARTIFACT_WAIT * 6)


def an_attempt_opens(seen: Observation) -> Decision:
    """A new revision goes on trial, or straight to 100 % if it is in the rollback window."""
    target = _get_target(seen)
    return _open(seen, target.program, fast=target.in_window)


def is_settled(seen: Observation) -> bool:
    """Whether every pod uses the table of the record, so that no older one is in use anywhere."""
    return seen.table is not None and (seen.confirmation.at is not None or seen.confirmation.presumed)


def _open(seen: Observation, program: Program, *, fast: bool) -> Decision:
    stable = find_stable(seen)
    pending = seen.pending
    about = f"Opening a trial of revision {program.revision}"
    if stable is None or not is_settled(seen):
        waited = seen.confirmation.message or _PRESENT
        return Decision(Reason.PREPARING, f"{about}: {waited}", wait=REFRESH_WAIT)
    recorded, program = program, place(seen, program, stable)
    if pending is None:
        attempt = _find_last_attempt(seen, program.revision) + 1
        return Decision(Reason.PREPARING, about, action=CreateRollout(program, stable, attempt, fast), wait=0)
    if pending.to != program or pending.fast is not fast or pending.origin != stable:
        return Decision(Reason.PREPARING, about, action=DeleteRollout(pending.name), wait=0)
    if program.revision not in seen.revisions:
        return Decision(Reason.PREPARING, about, action=CreateRevision(recorded), wait=0)
    target = seen.target
    source = target.program.revision if isinstance(target, Target) else program.revision
    attempt = seen.attempts.get(program.revision, 1)
    pointer = Pointer(program.revision, source, attempt, pending.name, pending.uid)
    handled = build_handled(seen.record.handled, seen.orders)
    record = replace(seen.record, pointer=pointer, handled=handled)
    return Decision(Reason.PREPARING, about, deployment=record, wait=0)


def _find_last_attempt(seen: Observation, revision: str) -> int:
    """The highest number in use, also of a record that was deleted but whose decision the table still carries."""
    stamped, _, number = (seen.table.rollout if seen.table else "").rpartition("-")
    is_of_revision = stamped.endswith(revision) and number.isdigit()
    return max(seen.attempts.get(revision, 0), int(number) if is_of_revision else 0)


def _is_paused(seen: Observation) -> bool:
    return seen.spec_paused or is_held_by_a_person(seen.record)


def _get_target(seen: Observation) -> Target:
    if not isinstance(seen.target, Target):
        raise AssertionError("this rule comes after the refusals")  # noqa: TRY004  a hole in the list of rules
    return seen.target
