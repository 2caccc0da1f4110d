"""The safety rules of the protocol over one decision: what was seen, and what is to be written.

Each returns the broken rule and a sentence, or None; `invariants.py` has those over writes and states.
"""

from collections.abc import Callable

from tests.model.invariants import FORWARD, FULL, PROMOTING, Broken, find_weight

from dspy_operator.rollout.actions import Decision, SetSplit
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.judging import Action, Reason
from dspy_operator.rollout.model import Observation, Phase, RolloutRecord, Target, Unmeasured
from dspy_operator.rollout.sizing import get_canary_size

DEADLINES = frozenset({Reason.DEADLINE_PROMOTE, Reason.DEADLINE_ROLLBACK})


def deletion_waits_for_nobody(seen: Observation, decision: Decision) -> Broken:
    """S10: of a deployment that is being deleted nothing is written."""
    if seen.deleting and (decision.deployment or decision.rollout or decision.action):
        return "S10: something is written although D is being deleted"
    return None


def a_close_needs_an_end(seen: Observation, decision: Decision) -> Broken:
    """S10: the pointer goes only when the record that was read is terminal or lost."""
    record, rollout = decision.deployment, seen.rollout
    if record is None or rollout is None or seen.record.pointer in {None, record.pointer}:
        return None
    phase = rollout.record.phase
    return None if phase.is_end else f"S10: the pointer goes while the attempt is {phase}"


def one_record_and_one_effect(_: Observation, decision: Decision) -> Broken:
    """W2: one pass writes at most one record."""
    if decision.deployment is not None and decision.rollout is not None:
        return "W2: two records in one pass"
    return None


def steps_forward_need_a_verdict(  # noqa: PLR0911  one way forward each
    seen: Observation, decision: Decision
) -> Broken:
    """S4: phase and step advance only by a verdict on looks since the weight took effect, or by a nonce."""
    rollout, record = seen.rollout, decision.rollout
    if rollout is None or record is None or record.phase not in FORWARD:
        return None
    was = rollout.record
    if (record.phase, record.step) == (was.phase, was.step):
        return None
    if was.phase is Phase.PROMOTING and record.phase is Phase.PROMOTED and rollout.plan.bake:
        return "S4: promoted without a bake"
    if was.phase in {Phase.PREPARING, Phase.PROMOTING}:
        return _needs_ready_pods(seen, was)
    if any(record.handled.get(command) != was.handled.get(command) for command in PROMOTING):
        return None
    if rollout.fast and was.phase is Phase.BAKING:
        is_over = was.effective_at is not None and seen.now >= was.effective_at + rollout.plan.bake
        return None if is_over else "S4: a fast attempt's bake is cut short"
    if rollout.is_previewed:
        is_over = seen.now >= (was.started_at or seen.now) + (
            rollout.plan.preview.duration if rollout.plan.preview else 0.0
        )
        return None if is_over else "S4: the preview is cut short"
    if decision.verdict is None or decision.verdict.action not in {Action.ADVANCE, Action.PROMOTE}:
        return f"S4: {was.phase} {was.step} goes on to {record.phase} {record.step} without a verdict"
    if was.effective_at is None:
        return f"S4: step {was.step} is judged before its weight is in effect"
    return None


def _needs_ready_pods(seen: Observation, was: RolloutRecord) -> Broken:
    """Preparing ends when every ready pod has the program, Promoting when every ready pod uses the table."""
    if was.phase is Phase.PREPARING and not _is_ready(seen, _get_first_weight(seen)):
        return "S4: the first step begins before the canary is ready"
    confirmed = seen.confirmation.at is not None or seen.confirmation.presumed
    if was.phase is Phase.PROMOTING and not (confirmed and _has_pods(seen)):
        return "S4: the bake begins before 100 % is in effect"
    return None


def a_step_takes_effect_in_ready_pods(seen: Observation, decision: Decision) -> Broken:
    """S4: a step's clock starts when every ready pod was seen to use the table of this record."""
    rollout, record = seen.rollout, decision.rollout
    if rollout is None or record is None or record.phase is not Phase.STEPPING:
        return None
    if rollout.record.effective_at is not None or record.effective_at is None:
        return None
    weight = seen.table.split.weight if seen.table else 0
    if seen.confirmation.at is None or not _has_pods(seen) or weight != record.weight:
        return "S4: a weight counts as in effect that no pod was seen to use"
    return None


def a_raise_needs_a_ready_canary(seen: Observation, decision: Decision) -> Broken:
    """S2: whoever gets more than before is loaded in every ready pod, or has as many of its own as that needs."""
    weight = decision.action.split.weight if isinstance(decision.action, SetSplit) else 0
    if not _is_raise(seen, decision) or _is_ready(seen, weight):
        return None
    return "S2: a raise onto a canary that no pod was seen to have"


def no_raise_for_what_is_superseded(seen: Observation, decision: Decision) -> Broken:
    """S15: the pass has read a spec that asks for something else."""
    pointer, target = seen.record.pointer, seen.target
    if not _is_raise(seen, decision) or pointer is None or not isinstance(target, Target):
        return None
    asked = target.program.revision
    queued = seen.queue and not seen.record.is_rejected(asked)
    is_stable = seen.record.stable is not None and asked == seen.record.stable.revision
    if asked in {pointer.revision, pointer.source} or (queued and not is_stable):
        return None
    return f"S15: a raise for {pointer.revision} although the spec asks for {asked}"


def blindness_changes_no_weight(seen: Observation, decision: Decision) -> Broken:
    """S16: without Prometheus only a deadline's policy or a person judges a canary that has its bytes."""
    rollout, record, verdict = seen.rollout, decision.rollout, decision.verdict
    if rollout is None or record is None or not isinstance(seen.judging.look, Unmeasured):
        return None
    if verdict is not None and verdict.action is not Action.HOLD and verdict.reason not in DEADLINES:
        return f"S16: {verdict.reason} although Prometheus does not answer"
    fresh = record.outcome is Phase.ROLLED_BACK and rollout.record.outcome is not Phase.ROLLED_BACK
    if rollout.has_own_pods and not _serves_from_own_pods(seen):
        return None
    if fresh and decision.verdict is None and rollout.to.sha256 in seen.capacity.slots:
        return "S16: rolled back because Prometheus does not answer"
    return None


def a_hold_holds(seen: Observation, decision: Decision) -> Broken:
    """1.4: while somebody holds it no record goes forward, whatever the judge says."""
    rollout, record = seen.rollout, decision.rollout
    if rollout is None or record is None or record.phase not in FORWARD:
        return None
    if (record.phase, record.step) == (rollout.record.phase, rollout.record.step):
        return None
    if seen.spec_paused or rollout.record.held:
        return f"1.4: {record.phase} {record.step} although the attempt is held"
    return None


def a_queue_waits(seen: Observation, decision: Decision) -> Broken:
    """1.4: with `Queue` a new revision waits until the attempt has ended, if the bytes of that are still to be had."""
    rollout, record, target = seen.rollout, decision.rollout, seen.target
    if rollout is None or record is None or not seen.queue or not isinstance(target, Target):
        return None
    asked = target.program.revision
    if record.outcome is not Phase.SUPERSEDED or rollout.record.outcome is not None:
        return None
    if asked == rollout.origin.revision or seen.record.is_rejected(asked):
        return None
    if rollout.to.sha256 not in seen.capacity.available:
        return None
    return f"1.4: superseded by {asked}, which should have queued"


def traffic_falls_after_the_record(seen: Observation, decision: Decision) -> Broken:
    """W3, S7: who takes the canary's traffic away has recorded it before, else the next pass gives it back."""
    action, rollout, table = decision.action, seen.rollout, seen.table
    if not isinstance(action, SetSplit) or rollout is None or table is None or not table.intact:
        return None
    record = decision.rollout or rollout.record
    before, after = (find_weight(split, rollout.to.revision) for split in (table.split, action.split))
    if after < before <= record.weight and record.phase in FORWARD:
        return f"W3: {before} % become {after} % without a record"
    return None


def a_rollback_needs_looks_at_its_weight(seen: Observation, decision: Decision) -> Broken:
    """S4: a step is judged, also against the canary, by looks since its weight took effect."""
    rollout, verdict = seen.rollout, decision.verdict
    if rollout is None or verdict is None or rollout.record.phase is not Phase.STEPPING:
        return None
    if verdict.action is Action.ROLL_BACK and rollout.record.effective_at is None:
        return f"S4: step {rollout.record.step} is judged before its weight is in effect"
    return None


def _is_raise(seen: Observation, decision: Decision) -> bool:
    action, canary = decision.action, None
    if isinstance(action, SetSplit):
        canary = action.split.canary
    if canary is None:
        return False
    before = seen.table.split.canary if seen.table else None
    held = before.weight if before and before.program == canary.program else 0
    return canary.weight > held


def _has_pods(seen: Observation) -> bool:
    return seen.capacity.ready_pods + seen.capacity.own.ready > 0


def _get_first_weight(seen: Observation) -> int:
    """The weight whose pods a canary of its own must have before the first step; a preview shows all of them."""
    if seen.rollout is None or seen.rollout.fast or seen.rollout.plan.preview:
        return FULL
    return seen.rollout.plan.weights[0]


def _serves_from_own_pods(seen: Observation) -> bool:
    """Whether all that can be known without Prometheus is well: own pods are there, and what routes follows."""
    record = seen.rollout.record if seen.rollout else RolloutRecord()
    is_told = seen.table is not None and seen.table.intact and seen.table.split.weight == record.weight
    return is_told and not seen.confirmation.message and _is_ready(seen, record.weight)


def _is_ready(seen: Observation, weight: int) -> bool:
    rollout = seen.rollout
    load = seen.capacity.loads.get(rollout.to.revision) if rollout else None
    if rollout is not None and rollout.has_own_pods:
        size = get_canary_size(seen.capacity.desired_pods, rollout.plan.routing, weight)
        return 0 < size <= seen.capacity.own.reachable
    if rollout is None or not seen.capacity.ready_pods:
        return False
    loaded = load is not None and load.state is LoadState.LOADED
    return loaded or (rollout.fast and seen.confirmation.presumed)


DECISIONS: tuple[Callable[[Observation, Decision], Broken], ...] = (
    deletion_waits_for_nobody,
    a_close_needs_an_end,
    one_record_and_one_effect,
    steps_forward_need_a_verdict,
    a_step_takes_effect_in_ready_pods,
    a_raise_needs_a_ready_canary,
    no_raise_for_what_is_superseded,
    blindness_changes_no_weight,
    a_hold_holds,
    a_queue_waits,
    traffic_falls_after_the_record,
    a_rollback_needs_looks_at_its_weight,
)
