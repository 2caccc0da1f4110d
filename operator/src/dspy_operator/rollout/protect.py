"""What protects comes before what progresses: a person's abort, a moved spec, a bad program, bad evidence."""

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import CreateRevision, Decision
from dspy_operator.rollout.attempt import is_held
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.ending import build_roll_back
from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.judging import Reason as Rule
from dspy_operator.rollout.judging.wording import get_duration
from dspy_operator.rollout.model import Observation, Phase, Rollout, Target
from dspy_operator.rollout.orders import find_order
from dspy_operator.rollout.world import LOWERED, is_canary_ready

_DEADLINES = frozenset({Rule.DEADLINE_ROLLBACK, Rule.DEADLINE_THRESHOLD_VIOLATED})


def somebody_aborts(seen: Observation) -> Decision | None:
    """`abort`, or `undo` while an attempt is open, which means the same."""
    order = find_order(seen, Command.ABORT, Command.UNDO)
    if order is None:
        return None
    asked = [
        o
        for o in seen.orders
        if o.command in {Command.ABORT, Command.UNDO, Command.PROMOTE, Command.PROMOTE_FULL}
    ]
    return build_roll_back(
        seen, Phase.ABORTED, Reason.ABORTED, f"Aborted by a person (`{order.command}`)", asked
    )


def the_spec_moved_on(seen: Observation) -> Decision | None:
    """The spec asks for something else than this attempt: it ends without a judgement on its revision."""
    rollout, pointer, target = seen.rollout, seen.record.pointer, seen.target
    if rollout is None or pointer is None or not isinstance(target, Target):
        return None
    asked = target.program.revision
    if asked in {rollout.to.revision, pointer.source}:
        return None
    if asked == rollout.origin.revision:
        message = f"The spec went back to the stable revision {asked}"
        return build_roll_back(seen, Phase.SUPERSEDED, Reason.SUPERSEDED, message)
    # Only what can still be tried is waited for: its bytes may have gone with the spec before they were copied.
    can_be_tried = rollout.to.sha256 in seen.capacity.available
    if seen.queue and can_be_tried and not seen.record.is_rejected(asked):
        return None
    message = f"The spec moved on to revision {asked} before {rollout.to.revision} was decided"
    return build_roll_back(seen, Phase.SUPERSEDED, Reason.SUPERSEDED_UNDECIDED, message)


def a_revision_is_lost(seen: Observation) -> Decision | None:
    """A ControllerRevision was deleted by hand: written again if anything still says what it was."""
    rollout = seen.rollout
    if rollout is None or rollout.record.phase in LOWERED:
        return None
    needed = (rollout.to,) if rollout.record.phase.is_end else (rollout.origin, rollout.to)
    lost = [program for program in needed if program.revision not in seen.revisions]
    if not lost:
        return None
    known = next((program for program in lost if seen.restorable.get(program.revision) == program), None)
    if known is not None:
        message = f"Recording revision {known.revision} again"
        return Decision(rollout.record.reason, message, action=CreateRevision(known), wait=0)
    message = f"The ControllerRevision of revision {lost[0].revision} is gone: everything goes back to stable"
    return build_roll_back(seen, Phase.ABORTED, Reason.REVISION_NOT_FOUND, message)


def the_canary_is_refused(seen: Observation) -> Decision | None:
    """Its program cannot be loaded: it never gets any traffic."""
    rollout = seen.rollout
    if rollout is None or rollout.record.phase is not Phase.PREPARING:
        return None
    load = seen.capacity.loads.get(rollout.to.revision)
    if load is None or load.state is not LoadState.REFUSED:
        return None
    return build_roll_back(seen, Phase.ROLLED_BACK, load.reason, load.message)


def the_evidence_is_against_it(seen: Observation) -> Decision | None:
    """The judge says roll back; also while paused, but then no deadline runs."""
    verdict = seen.judging.verdict
    if verdict is None or verdict.action is not Action.ROLL_BACK:
        return None
    if verdict.reason in _DEADLINES and is_held(seen):
        return None
    return build_roll_back(seen, Phase.ROLLED_BACK, str(verdict.reason), verdict.message)


def it_never_became_ready(seen: Observation) -> Decision | None:
    """`readyDeadline` is over. Not being able to see the pods is no reason to reject a program."""
    rollout = seen.rollout
    if rollout is None:
        return None
    record = rollout.record
    if record.phase not in {Phase.PREPARING, Phase.PROMOTING} or is_held(seen):
        return None
    load = seen.capacity.loads.get(rollout.to.revision)
    has_bytes = rollout.to.sha256 in seen.capacity.slots
    blind = has_bytes and (load is None or load.state is LoadState.UNKNOWN)
    began = record.started_at or rollout.created_at
    ready = is_canary_ready(seen) if record.phase is Phase.PREPARING else seen.confirmation.at is not None
    if blind or ready:
        return None
    if seen.now - began < rollout.plan.ready_deadline:
        return None
    return build_roll_back(seen, Phase.ROLLED_BACK, Reason.NOT_READY, _describe_late(seen, rollout))


def _describe_late(seen: Observation, rollout: Rollout) -> str:
    within = f"within {get_duration(rollout.plan.ready_deadline)} (readyDeadline)"
    if rollout.to.sha256 not in seen.capacity.available:
        return f"The bytes of program {rollout.to.sha256[:12]} were not to be had {within}"
    if seen.capacity.ready_pods == 0:
        return f"No pod was ready {within}"
    if rollout.record.phase is Phase.PROMOTING:
        return f"Not every pod used the routing table with 100 % {within}"
    load = seen.capacity.loads.get(rollout.to.revision)
    why = f": {load.message}" if load and load.message else ""
    return f"Not every pod had loaded program {rollout.to.sha256[:12]} {within}{why}"
