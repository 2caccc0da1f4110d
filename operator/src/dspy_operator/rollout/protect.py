"""What protects comes before what progresses: a person's abort, a moved spec, a bad program, bad evidence."""

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import CreateRevision, Decision
from dspy_operator.rollout.attempt import describe_own_pods, is_held, is_in_effect
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.ending import build_roll_back
from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.judging import Reason as Rule
from dspy_operator.rollout.judging.wording import get_duration
from dspy_operator.rollout.look import JUDGED
from dspy_operator.rollout.model import Observation, Phase, Rollout, Target
from dspy_operator.rollout.orders import find_order
from dspy_operator.rollout.world import LOWERED, get_own_size, is_canary_ready

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
    known = next((program for program in lost if program.revision in seen.restorable), None)
    if known is not None:
        message = f"Recording revision {known.revision} again"
        return Decision(
            rollout.record.reason, message, action=CreateRevision(seen.restorable[known.revision]), wait=0
        )
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


def its_pods_are_denied(seen: Observation) -> Decision | None:
    """The API server lets no pod of its own be made (quota, limits, pod security): only a person can make room."""
    rollout, own = seen.rollout, seen.capacity.own
    if rollout is None or not rollout.has_own_pods or rollout.record.phase is not Phase.PREPARING:
        return None
    if not own.denied or own.ready >= get_own_size(seen):
        return None
    message = f"The API server lets no pod of the canary be made: {own.denied[:500]}"
    return build_roll_back(seen, Phase.ROLLED_BACK, Reason.QUOTA_EXCEEDED, message)


def its_pods_are_dead(seen: Observation) -> Decision | None:
    """Own pods: none is Ready while users are sent there. Also while a person holds it."""
    rollout, own = seen.rollout, seen.capacity.own
    if rollout is None or not rollout.has_own_pods or own.ready or own.is_coming_up or not get_own_size(seen):
        return None
    if rollout.record.phase not in JUDGED or not (seen.table and seen.table.split.weight):
        return None
    why = own.denied or own.message
    message = f"No pod of the canary is ready at {seen.table.split.weight} %" + (why and f": {why}")
    return build_roll_back(seen, Phase.ROLLED_BACK, Reason.CANARY_DEAD, message)


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
    if not _waits_for_pods(rollout) or is_held(seen):
        return None
    began = record.started_at or rollout.created_at
    is_at_zero = record.phase is Phase.PREPARING or rollout.is_previewed
    confirmed = seen.confirmation.at is not None and (is_in_effect(seen) or not rollout.has_own_pods)
    ready = is_canary_ready(seen) if is_at_zero else confirmed
    if ready or _is_blind(seen, rollout):
        return None
    if seen.now - began < rollout.plan.ready_deadline:
        return None
    own = seen.capacity.own
    only_routing = rollout.has_own_pods and own.ready >= get_own_size(seen) and own.ready > 0
    reason = Reason.GATEWAY_NOT_READY if only_routing else Reason.NOT_READY
    return build_roll_back(seen, Phase.ROLLED_BACK, reason, _describe_late(seen, rollout))


def _is_blind(seen: Observation, rollout: Rollout) -> bool:
    """Whether only Prometheus could say what is missing, and does not.

    Of own pods the API server says whether they are there and reached; whether pods use the table it does not know.
    """
    load = seen.capacity.loads.get(rollout.to.revision)
    if rollout.to.sha256 not in seen.capacity.slots or (load and load.state is not LoadState.UNKNOWN):
        return False
    is_routed = is_in_effect(seen) and not seen.confirmation.message
    return not rollout.has_own_pods or (is_routed and is_canary_ready(seen))


def _waits_for_pods(rollout: Rollout) -> bool:
    """Whether the attempt waits for readiness; with own pods at every step, as each needs more of them."""
    record = rollout.record
    if record.phase is Phase.STEPPING:
        return rollout.has_own_pods and record.effective_at is None
    return record.phase in {Phase.PREPARING, Phase.PROMOTING}


def _describe_late(seen: Observation, rollout: Rollout) -> str:
    within = f"within {get_duration(rollout.plan.ready_deadline)} (readyDeadline)"
    if rollout.to.sha256 not in seen.capacity.available:
        return f"The bytes of program {rollout.to.sha256[:12]} were not to be had {within}"
    is_at_pods = rollout.record.weight == 0 or not is_in_effect(seen)
    if rollout.has_own_pods and is_at_pods and not is_canary_ready(seen):
        return describe_own_pods(seen, within)
    if rollout.has_own_pods and seen.confirmation.message:
        return f"{rollout.record.weight} % was not in effect {within}: {seen.confirmation.message}"
    if seen.capacity.ready_pods == 0:
        return f"No pod was ready {within}"
    if rollout.record.phase is Phase.PROMOTING:
        return f"Not every pod used the routing table with 100 % {within}"
    load = seen.capacity.loads.get(rollout.to.revision)
    why = f": {load.message}" if load and load.message else ""
    return f"Not every pod had loaded program {rollout.to.sha256[:12]} {within}{why}"
