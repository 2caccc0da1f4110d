"""The regression gate: both programs on the same examples before any traffic, for an attempt and the first revision.

A Job measures; what it says is read anew at each pass, so that a crash loses nothing but time.
"""

from dataclasses import replace

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout import orders
from dspy_operator.rollout.actions import Decision, Notice, RemoveGate, RunGate
from dspy_operator.rollout.attempt import build_advance, build_first_step, build_loading, is_in_effect
from dspy_operator.rollout.capacity import ArtifactState, GateState
from dspy_operator.rollout.ending import build_rejected, build_roll_back, get_rollout
from dspy_operator.rollout.judging.wording import get_duration
from dspy_operator.rollout.model import Observation, Phase, Program, Rollout, Target
from dspy_operator.rollout.world import build_copying, build_recording, is_canary_ready

TRY_AGAIN = 30.0
"""Seconds after a run without a verdict: a provider that is down is not hammered."""
FIRST_ATTEMPT = 1
"""The number in the name of the first revision's Job."""


def a_run_is_left(seen: Observation) -> Decision | None:
    """A Job still asks models for an attempt that is over: by an abort, or by a late request of a killed operator."""
    if not seen.gate.left:
        return None
    message = f"Removing Job {seen.gate.left[0]}, whose attempt is over"
    return Decision(Reason.HEALTHY, message, action=RemoveGate(seen.gate.left[0]), wait=0)


def the_examples_are_against_it(seen: Observation) -> Decision | None:
    """The gate says no: the canary never gets any traffic. Also while a person holds it."""
    rollout = seen.rollout
    if (
        rollout is None
        or rollout.record.phase is not Phase.REGRESSION
        or seen.gate.state is not GateState.FAILED
    ):
        return None
    return build_roll_back(seen, Phase.ROLLED_BACK, Reason.REGRESSION_FAILED, _quote(seen))


def it_is_compared(seen: Observation) -> Decision | None:
    """The gate's verdict, or a person's, lets the first step begin."""
    rollout = get_rollout(seen)
    if rollout.record.phase is not Phase.REGRESSION:
        return None
    skip = [o for o in seen.orders if o.command in {Command.PROMOTE, Command.PROMOTE_FULL}]
    if skip or seen.gate.state is GateState.PASSED:
        if not is_in_effect(seen) or not is_canary_ready(seen):
            return build_loading(seen)
        why = "The gate was skipped by a person" if skip else _quote(seen)
        if any(order.command is Command.PROMOTE_FULL for order in skip):
            return build_advance(seen, len(rollout.plan.weights), why, skip)
        return build_first_step(seen, why, skip)
    deadline = rollout.plan.gate_deadline
    if deadline is not None and seen.now - (rollout.record.started_at or seen.now) >= deadline:
        message = f"No verdict within {get_duration(deadline)} (regression.deadline): {seen.gate.message}"
        return build_roll_back(seen, Phase.ROLLED_BACK, Reason.REGRESSION_NO_VERDICT, message)
    return _go_on(seen, rollout.to, rollout)


def first_revision_waits(seen: Observation) -> Decision | None:
    """With `minScore` the first revision serves after its examples; until they say no, it is tried again."""
    target = seen.target
    if not isinstance(target, Target) or not target.is_gated or target.artifact is not ArtifactState.READY:
        return None
    if seen.gate.left:
        return a_run_is_left(seen)
    if seen.record.is_rejected(target.program.revision):
        return _stay_rejected(seen, target.program)
    return _prepare_first(seen, target.program) or _judge_first(seen, target.program)


def _prepare_first(seen: Observation, program: Program) -> Decision | None:
    """What the Job needs: the record of what its pod runs, and a copy of the program."""
    if program.revision not in seen.revisions:
        return build_recording(program, Reason.INITIALIZING)
    if program.sha256 not in seen.capacity.archived:
        return build_copying(program, Reason.INITIALIZING)
    return None


def _judge_first(seen: Observation, program: Program) -> Decision | None:
    match seen.gate.state:
        case GateState.PASSED:
            return None
        case GateState.FAILED:
            return _reject_first(seen, program)
        case _:
            return _go_on(seen, program, None)


def _reject_first(seen: Observation, program: Program) -> Decision:
    message = _quote(seen)
    entry = build_rejected(seen, program.revision, Reason.REGRESSION_FAILED, message, seen.now)
    handled = orders.build_handled(seen.record.handled, seen.orders)
    record = replace(seen.record, rejected=(*seen.record.rejected, entry), handled=handled)
    notice = Notice(Reason.REGRESSION_FAILED, message, warning=True)
    return Decision(Reason.REGRESSION_FAILED, message, deployment=record, notices=(notice,), wait=0)


def _stay_rejected(seen: Observation, program: Program) -> Decision:
    """Its Job goes, so that `retry` starts another one."""
    if seen.gate.job:
        return Decision(Reason.REGRESSION_FAILED, seen.gate.message, action=RemoveGate(seen.gate.job), wait=0)
    told = orders.to_an_idle_deployment(seen)
    if told is not None:
        return told
    entry = next(entry for entry in seen.record.rejected if entry.revision == program.revision)
    why = f"was rejected at {entry.at}: {entry.message.rstrip('.')}"
    message = f"Revision {program.revision} {why}; `retry` tries it again"
    return Decision(Reason.REGRESSION_FAILED, message)


def _go_on(seen: Observation, program: Program, rollout: Rollout | None) -> Decision:
    """Run it, wait for it, or clear it away after a run that said nothing."""
    gate, reason = seen.gate, Reason.INITIALIZING if rollout is None else Reason.PREPARING
    match gate.state:
        case GateState.ABSENT:
            message = f"Asking program {program.sha256[:12]} the examples of spec.regression"
            pointer = seen.record.pointer
            action = RunGate(program, pointer.attempt if pointer else FIRST_ATTEMPT)
            return Decision(reason, message, action=action, wait=0)
        case GateState.NO_VERDICT:
            left = TRY_AGAIN - (seen.now - (gate.ended_at or seen.now))
            message = f"The examples gave no verdict and are asked again: {gate.message}"
            if left > 0:
                return Decision(reason, message, wait=left)
            return Decision(reason, message, action=RemoveGate(gate.job), wait=0)
        case _:
            message = f"Job {gate.job} asks the examples of spec.regression"
            return Decision(reason, f"{message}{gate.message and ': '}{gate.message}")


def _quote(seen: Observation) -> str:
    return f"Regression gate: {seen.gate.message}"
