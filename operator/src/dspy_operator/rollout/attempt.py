"""How an open attempt goes forward: prepare, step, promote, bake. Nothing here runs while a person holds it."""

from collections.abc import Iterable
from dataclasses import replace

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import Decision, Notice, SetSplit
from dspy_operator.rollout.capacity import LoadState
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.ending import build_next, get_rollout
from dspy_operator.rollout.judging import Action
from dspy_operator.rollout.judging import Reason as Rule
from dspy_operator.rollout.judging.wording import get_duration
from dspy_operator.rollout.model import Observation, Order, Phase, Refusal, Rollout, RolloutRecord, Unmeasured
from dspy_operator.rollout.noticing import note_trouble
from dspy_operator.rollout.orders import build_handled, find_order, is_held_by_a_person
from dspy_operator.rollout.world import (
    REFRESH_WAIT,
    find_wanted_split,
    get_measured_now,
    get_own_size,
    is_canary_ready,
    may_enter,
)

FULL = 100
_PROMOTING_ORDERS = frozenset({Command.PROMOTE, Command.PROMOTE_FULL})


def is_held(seen: Observation) -> bool:
    """Whether nothing may go forward: `spec.paused`, a `pause`, or a spec that cannot be read."""
    record = seen.rollout.record if seen.rollout else None
    return seen.spec_paused or isinstance(seen.target, Refusal) or is_held_by_a_person(seen.record, record)


def is_in_effect(seen: Observation) -> bool:
    """Whether the routing table in the cluster is the one that the record asks for."""
    return bool(seen.table and seen.table.intact and seen.table.split == find_wanted_split(seen))


def it_is_preparing(seen: Observation) -> Decision | None:
    """The pods load the program at weight 0; when every one has it, the first step begins."""
    rollout = get_rollout(seen)
    if rollout.record.phase is not Phase.PREPARING:
        return None
    if rollout.record.started_at is None:
        message = f"Revision {rollout.to.revision} (program {rollout.to.sha256[:12]}) is on trial"
        changed = replace(rollout.record, started_at=seen.now, epoch=seen.epoch, message=message)
        notice = Notice(Reason.ROLLOUT_STARTED, message)
        return Decision(
            Reason.PREPARING, message, rollout=build_next(seen, rollout, changed), notices=(notice,), wait=0
        )
    if not is_in_effect(seen) or not is_canary_ready(seen):
        return build_loading(seen)
    full = find_order(seen, Command.PROMOTE_FULL)
    is_gated = rollout.plan.gate_deadline is not None
    skips = rollout.plan.weights[0] >= FULL and not is_gated and rollout.plan.preview is None
    if rollout.fast or full or skips:
        return build_advance(
            seen, len(rollout.plan.weights), "Going to 100 % without steps", [full] if full else []
        )
    asked = [order for order in seen.orders if order.command is Command.PROMOTE]
    if is_gated and not asked:
        return _begin_comparison(seen, rollout)
    return build_first_step(seen, "Every pod has loaded the program", asked)


def build_first_step(seen: Observation, why: str, orders: Iterable[Order] = ()) -> Decision:
    """What follows the preparations: the preview of a blue-green attempt, else the first step."""
    rollout = get_rollout(seen)
    return build_advance(seen, 0 if rollout.plan.preview else 1, why, orders)


def _begin_comparison(seen: Observation, rollout: Rollout) -> Decision:
    message = "Every pod has loaded the program; first it answers the examples of spec.regression"
    changed = replace(
        rollout.record, phase=Phase.REGRESSION, started_at=seen.now, reason=Reason.PREPARING, message=message
    )
    return Decision(Reason.PREPARING, message, rollout=build_next(seen, rollout, changed), wait=0)


def a_person_promotes(seen: Observation) -> Decision | None:
    """`promote`: the next step now, once the table is at this one; at 100 % it ends the bake."""
    rollout = get_rollout(seen)
    order = find_order(seen, *_PROMOTING_ORDERS)
    if order is None or not is_in_effect(seen):
        return None
    orders = [o for o in seen.orders if o.command in _PROMOTING_ORDERS]
    if rollout.record.phase is Phase.BAKING:
        return _promote(seen, "The bake was ended by a person", orders)
    if rollout.record.phase is not Phase.STEPPING or not is_canary_ready(seen):
        return None
    last = len(rollout.plan.weights)
    step = last if any(o.command is Command.PROMOTE_FULL for o in orders) else rollout.record.step + 1
    return build_advance(seen, min(step, last), "Promoted by a person", orders)


def the_weight_takes_effect(seen: Observation) -> Decision | None:
    """The step's clock starts when the last ready pod was seen to use the new table."""
    rollout = get_rollout(seen)
    if rollout.record.phase is not Phase.STEPPING or rollout.record.effective_at is not None:
        return None
    at = seen.confirmation.at
    if at is None or not is_in_effect(seen):
        return _wait_for_effect(seen, rollout)
    analysis = seen.judging.analysis
    if analysis is None:
        return _wait_for_reference(seen)
    analysis = analysis.enter_step(rollout.record.step, at)
    record = replace(rollout.record, effective_at=at, analysis=analysis, reason=Reason.COLLECTING_EVIDENCE)
    message = f"{record.weight} % is in effect in every pod"
    return Decision(
        Reason.COLLECTING_EVIDENCE, message, rollout=replace(record, message=message), analysis=analysis
    )


def _wait_for_effect(seen: Observation, rollout: Rollout) -> Decision:
    """The weight is recorded, but own pods, the table in the pods or the gateway are not there yet: say which."""
    if not is_in_effect(seen) and not is_canary_ready(seen):
        message = f"{rollout.record.weight} % is next: {describe_own_pods(seen)}"
    else:
        waited = seen.confirmation.message or "waiting until every pod uses it"
        message = f"{rollout.record.weight} % is set; {waited}"
    return Decision(Reason.WEIGHT_NOT_EFFECTIVE, message, wait=REFRESH_WAIT)


def describe_own_pods(seen: Observation, within: str = "") -> str:
    """How many of the canary's own pods can be reached (`within` which time), and what the others wait for."""
    own, wanted = seen.capacity.own, get_own_size(seen)
    waited = own.denied or own.message
    counted = f"{own.reachable} of {wanted} pods of the canary"
    told = f"{counted} could be reached {within}" if within else f"{counted} can be reached"
    return told + (waited and f": {waited}")


def _wait_for_reference(seen: Observation) -> Decision:
    rollout = get_rollout(seen)
    message = "Waiting for what Prometheus knows of the stable revision"
    changed = replace(rollout.record, reason=Reason.EVIDENCE_MISSING, message=message)
    record, notices = note_trouble(seen, rollout, changed)
    return Decision(
        Reason.EVIDENCE_MISSING, message, rollout=record if notices else None, notices=notices, wait=5
    )


def everything_is_sent_while_held(seen: Observation) -> Decision | None:
    """Paused on the way to 100 %: the table is there already, so what it does is judged; nothing goes forward."""
    rollout = get_rollout(seen)
    record, analysis, at = rollout.record, seen.judging.analysis, seen.confirmation.at
    if record.phase is not Phase.PROMOTING or record.effective_at is not None or not is_held(seen):
        return None
    if at is None or not is_in_effect(seen) or analysis is None or rollout.fast or rollout.plan.bake <= 0:
        return None
    analysis = analysis.enter_bake(at)
    changed = replace(record, effective_at=at, analysis=analysis)
    return Decision(record.reason, record.message, rollout=changed, analysis=analysis, wait=0)


def it_is_promoting(seen: Observation) -> Decision | None:
    """100 % is set; when every pod uses it the bake begins."""
    rollout = get_rollout(seen)
    if rollout.record.phase is not Phase.PROMOTING:
        return None
    at = seen.confirmation.at or (get_measured_now(seen) if seen.confirmation.presumed else None)
    if at is None or not is_in_effect(seen):
        return replace(_wait_for_effect(seen, rollout), reason=Reason.PROMOTING)
    if rollout.plan.bake <= 0:
        return _promote(seen, "100 % is in effect in every pod")
    analysis = seen.judging.analysis
    if analysis is None and not rollout.fast:
        return _wait_for_reference(seen)
    if analysis is not None and not rollout.fast and rollout.record.effective_at is None:
        analysis = analysis.enter_bake(at)
    message = f"100 % is in effect in every pod; watching for {get_duration(rollout.plan.bake)}"
    changed = replace(
        rollout.record,
        phase=Phase.BAKING,
        effective_at=at,
        analysis=analysis,
        noticed=(),
        reason=Reason.BAKING,
        message=message,
    )
    return Decision(
        Reason.BAKING, message, rollout=build_next(seen, rollout, changed), analysis=analysis, wait=1
    )


def it_is_held(seen: Observation) -> Decision | None:
    """A person holds it, or the spec cannot be read: no record goes forward. Clocks start again at the resume."""
    rollout = get_rollout(seen)
    held, record = is_held(seen), rollout.record
    if held is record.held:
        return _hold(seen) if held else None
    if held:
        decision = _hold(seen)
        notice = Notice(Reason.PAUSED, decision.message)
        return replace(decision, rollout=replace(record, held=True), notices=(notice,), wait=0)
    analysis, now = seen.judging.analysis, get_measured_now(seen)
    if analysis is not None:
        analysis = analysis.resume(now)
    message = f"Resumed at {record.weight} %"
    changed = replace(
        record,
        held=False,
        started_at=seen.now if record.effective_at is None else record.started_at,
        effective_at=now if rollout.fast and record.effective_at is not None else record.effective_at,
        analysis=analysis or record.analysis,
        reason=Reason.RESUMED,
        message=message,
    )
    return Decision(
        Reason.RESUMED,
        message,
        rollout=changed,
        analysis=analysis,
        notices=(Notice(Reason.RESUMED, message),),
        wait=0,
    )


def the_gate_is_open(seen: Observation) -> Decision | None:
    """The judge says advance or promote; a fast attempt only waits for its bake."""
    rollout = get_rollout(seen)
    record, verdict = rollout.record, seen.judging.verdict
    if record.phase is Phase.BAKING and rollout.fast:
        return _bake_fast(seen, rollout)
    if verdict is None or verdict.action not in {Action.ADVANCE, Action.PROMOTE}:
        return None
    if record.phase is Phase.BAKING:
        return _promote(seen, verdict.message)
    if not is_in_effect(seen) or not is_canary_ready(seen):
        return None
    return build_advance(seen, record.step + 1, verdict.message, reason=str(verdict.reason))


def it_goes_on(seen: Observation) -> Decision:
    """Nothing to decide yet: say why, and keep what was measured."""
    rollout = get_rollout(seen)
    record, judging = rollout.record, seen.judging
    known = judging.verdict or judging.last
    if judging.verdict is None and isinstance(judging.look, Unmeasured):
        reason, message = judging.look.reason, judging.look.message
    elif known is not None:
        reason, message = str(known.reason), known.message
    else:
        reason, message = str(record.reason), record.message
    awaiting = reason == Rule.AWAITING_PROMOTION if judging.verdict else record.awaiting
    analysis = judging.analysis or record.analysis
    changed = replace(record, awaiting=awaiting, analysis=analysis, reason=reason, message=message)
    changed, notices = note_trouble(seen, rollout, changed)
    if awaiting and not record.awaiting:
        notices = (*notices, Notice(Reason.AWAITING_PROMOTION, message))
    due = seen.checkpoint_due or awaiting != record.awaiting or bool(notices)
    return Decision(
        reason,
        message,
        rollout=changed if due and changed != record else None,
        analysis=judging.analysis,
        verdict=judging.verdict,
        notices=notices,
    )


def _bake_fast(seen: Observation, rollout: Rollout) -> Decision:
    now = get_measured_now(seen)
    over = (rollout.record.effective_at or now) + rollout.plan.bake
    if now >= over:
        return _promote(seen, "The bake is over")
    message = f"100 % is in effect in every pod; watching until {format_time(over)}"
    return Decision(Reason.BAKING, message, wait=min(30.0, over - now))


def build_advance(
    seen: Observation, step: int, why: str, orders: Iterable[Order] = (), reason: str | None = None
) -> Decision:
    """Record the next step and set its weight in the same pass if the canary is ready for it.

    `why` is for people; `orders` are those that it carries out; `reason`: the judge's.
    """
    rollout = get_rollout(seen)
    weight = rollout.plan.weights[step - 1] if step else 0
    phase = Phase.PROMOTING if weight >= FULL else Phase.STEPPING
    shown = reason or (Reason.PROMOTING if phase is Phase.PROMOTING else Reason.STEP_ADVANCED)
    message = f"{why}: {weight} %" if step else f"{why}: the preview begins"
    changed = replace(
        rollout.record,
        phase=phase,
        step=step,
        weight=weight,
        started_at=seen.now,
        effective_at=None,
        awaiting=False,
        noticed=(),
        reason=shown,
        message=message,
        handled=build_handled(rollout.record.handled, orders),
        analysis=seen.judging.analysis or rollout.record.analysis,
    )
    record = build_next(seen, rollout, changed)
    return _with_split(seen, rollout, record, Notice(Reason.STEP_ADVANCED, message))


def _with_split(seen: Observation, rollout: Rollout, record: RolloutRecord, notice: Notice) -> Decision:
    after = replace(seen, rollout=replace(rollout, record=record))
    split = find_wanted_split(after)
    # Own pods may have to become more first: then the split follows when they are ready.
    action = SetSplit(split, rollout.name, record.number) if split and may_enter(after, split) else None
    return Decision(
        record.reason,
        record.message,
        rollout=record,
        action=action,
        wait=REFRESH_WAIT if action else 0,
        notices=(notice,),
        analysis=record.analysis,
        verdict=seen.judging.verdict,
    )


def _promote(seen: Observation, why: str, orders: Iterable[Order] = ()) -> Decision:
    rollout = get_rollout(seen)
    message = f"Revision {rollout.to.revision} is stable now: {why}"
    changed = replace(
        rollout.record,
        phase=Phase.PROMOTED,
        outcome=Phase.PROMOTED,
        reason=Reason.PROMOTED,
        message=message,
        awaiting=False,
        handled=build_handled(rollout.record.handled, orders),
        analysis=seen.judging.analysis or rollout.record.analysis,
    )
    record = build_next(seen, rollout, changed)
    return Decision(
        Reason.PROMOTED,
        message,
        rollout=record,
        wait=0,
        analysis=record.analysis,
        verdict=seen.judging.verdict,
    )


def _hold(seen: Observation) -> Decision:
    rollout = get_rollout(seen)
    if isinstance(seen.target, Refusal):
        return Decision(
            seen.target.reason,
            seen.target.message,
            analysis=seen.judging.analysis,
            verdict=seen.judging.verdict,
        )
    message = f"Paused at {rollout.record.weight} %: `resume` lets it go on"
    if seen.spec_paused:
        message = f"Paused at {rollout.record.weight} % by spec.paused: false lets it go on"
    record = None
    if seen.checkpoint_due and seen.judging.analysis not in {None, rollout.record.analysis}:
        record = replace(rollout.record, analysis=seen.judging.analysis)
    return Decision(
        Reason.PAUSED, message, rollout=record, analysis=seen.judging.analysis, verdict=seen.judging.verdict
    )


def build_loading(seen: Observation) -> Decision:
    """Nothing but saying what the canary's program still waits for."""
    reason, message = _describe_loading(seen)
    return Decision(reason, message, wait=REFRESH_WAIT)


def _describe_loading(seen: Observation) -> tuple[Reason, str]:
    rollout = get_rollout(seen)
    name = rollout.to.sha256[:12]
    if rollout.to.sha256 not in seen.capacity.available:
        return Reason.PREPARING, f"The bytes of program {name} are gone: waiting for its ConfigMap"
    if rollout.has_own_pods:
        return Reason.PREPARING, describe_own_pods(seen)
    load = seen.capacity.loads.get(rollout.to.revision)
    if load is None or load.state is LoadState.UNKNOWN:
        return Reason.PREPARING, "Waiting to see in Prometheus whether the pods have loaded the program"
    return load.reason, load.message or f"The pods are loading program {name}"
