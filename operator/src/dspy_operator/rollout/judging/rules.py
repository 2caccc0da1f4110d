"""The rules of a look, in the order in which they win: roll back, gate, deadline, hold.

Reads a State whose evidence is up to date, and says what may happen; it changes nothing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

from dspy_operator.api.choices import Approval, Mode, OnDeadline
from dspy_operator.rollout.judging.config import StepConfig
from dspy_operator.rollout.judging.readings import Reading, get_rollout_ln_e, list_deciding
from dspy_operator.rollout.judging.sample_ratio import LN_ALARM, get_ratio_ln_e
from dspy_operator.rollout.judging.state import State
from dspy_operator.rollout.judging.verdicts import Action, Reason

SLACK = 1e-9
"""Seconds; times are sums of rounded numbers."""


class LookKind(Enum):
    """What a look is good for."""

    USABLE = auto()
    EMPTY = auto()
    UNSETTLED = auto()
    OUTAGE = auto()
    BLIND = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """The rule that spoke; `metrics` are those that it spoke about."""

    action: Action
    reason: Reason
    metrics: tuple[str, ...] = ()
    deadline_passed: bool = False


def get_finding(state: State, kind: LookKind, readings: list[Reading], elapsed: float) -> Finding:
    """The first rule that applies; `elapsed` seconds on the deadline's clock."""
    rollback = find_rollback(state, readings)
    if rollback is not None:
        return rollback
    if state.is_baking:
        return _get_bake_finding(state, kind)
    if state.step == 0:
        return Finding(Action.HOLD, Reason.NOT_JUDGED)
    step = state.config.judged_steps[state.step - 1]
    held = _find_blindness(kind) or _get_gate_finding(state, step, kind, readings)
    if held.action is not Action.HOLD or held.reason is Reason.AWAITING_PROMOTION:
        return held
    if elapsed < step.deadline_or_default - SLACK:
        return held
    return _get_deadline_finding(state, step, kind, readings, held)


def find_rollback(state: State, readings: list[Reading]) -> Finding | None:
    """Rule 1: evidence, or in Threshold mode the literal rule from minSamples on."""
    if state.config.mode is Mode.THRESHOLD:
        violated = _list_names(
            r for r in list_deciding(readings) if r.is_violated and not r.is_short and r.is_measured
        )
        return Finding(Action.ROLL_BACK, Reason.THRESHOLD_VIOLATED, violated) if violated else None
    if get_rollout_ln_e(readings) < -math.log(state.config.alpha):
        return None
    against = _list_names(r for r in readings if not r.metric.dry_run and r.ln_e_rollback > 0)
    return Finding(Action.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION, against)


def is_ratio_alarm(state: State) -> bool:
    """Whether the split that arrived contradicts the routing table."""
    return get_ratio_ln_e(state.ratio_evidence) >= LN_ALARM


def _find_blindness(kind: LookKind) -> Finding | None:
    match kind:
        case LookKind.UNSETTLED:
            return Finding(Action.HOLD, Reason.WEIGHT_NOT_EFFECTIVE)
        case LookKind.OUTAGE:
            return Finding(Action.HOLD, Reason.LM_OUTAGE)
        case LookKind.BLIND:
            return Finding(Action.HOLD, Reason.EVIDENCE_MISSING)
        case LookKind.USABLE | LookKind.EMPTY:
            return None
        case _:
            assert_never(kind)


def _get_gate_finding(state: State, step: StepConfig, kind: LookKind, readings: list[Reading]) -> Finding:
    if is_ratio_alarm(state):
        return Finding(Action.HOLD, Reason.SAMPLE_RATIO_MISMATCH)
    closed = _find_closed(state, step, list_deciding(readings))
    if closed is not None:
        return closed
    if state.config.mode is Mode.THRESHOLD:
        return _get_forward(state, step, kind, Reason.THRESHOLD_PASSED)
    return _get_forward(state, step, kind, Reason.EVIDENCE_OF_QUALITY)


def _find_closed(state: State, step: StepConfig, deciding: list[Reading]) -> Finding | None:
    """Why the gate is closed; None when it is open."""
    missing = _list_names(r for r in deciding if not r.is_measured)
    short = _list_names(r for r in deciding if r.is_short)
    above = _list_names(r for r in deciding if r.is_violated or r.is_beyond_limits)
    if missing or not deciding:
        return Finding(Action.HOLD, Reason.EVIDENCE_MISSING, missing)
    if short:
        return Finding(Action.HOLD, Reason.MIN_SAMPLES, short)
    if state.clock.observed < step.min_duration - SLACK:
        return Finding(Action.HOLD, Reason.MIN_DURATION)
    if above:
        return Finding(Action.HOLD, Reason.DROP_ABOVE_MARGIN, above)
    if state.is_last_step and state.config.mode is Mode.EVIDENCE:
        threshold = -math.log(state.config.alpha)
        undecided = _list_names(r for r in deciding if r.ln_e_promote < threshold)
        if undecided:
            return Finding(Action.HOLD, Reason.COLLECTING_EVIDENCE, undecided)
    return None


def _get_forward(state: State, step: StepConfig, kind: LookKind, reason: Reason) -> Finding:
    """The next step or the promotion, if a person need not agree first; never on a look that saw nothing."""
    if step.approval is Approval.MANUAL:
        return Finding(Action.HOLD, Reason.AWAITING_PROMOTION)
    if kind is not LookKind.USABLE:
        return Finding(Action.HOLD, Reason.EVIDENCE_MISSING)
    if state.is_last_step:
        return Finding(Action.PROMOTE, reason)
    by_gate = reason in {Reason.EVIDENCE_OF_QUALITY, Reason.THRESHOLD_PASSED}
    return Finding(Action.ADVANCE, Reason.GATE_OPEN if by_gate else reason)


def _get_deadline_finding(
    state: State, step: StepConfig, kind: LookKind, readings: list[Reading], held: Finding
) -> Finding:
    policy = state.config.on_deadline
    match policy:
        case OnDeadline.ROLLBACK:
            return Finding(Action.ROLL_BACK, Reason.DEADLINE_ROLLBACK, deadline_passed=True)
        case OnDeadline.PROMOTE:
            # It acts without looking, but not without the person whom an approval asks for.
            if step.approval is Approval.MANUAL:
                return Finding(Action.HOLD, Reason.AWAITING_PROMOTION, deadline_passed=True)
            action = Action.PROMOTE if state.is_last_step else Action.ADVANCE
            return Finding(action, Reason.DEADLINE_PROMOTE, deadline_passed=True)
        case OnDeadline.HOLD:
            in_sight = (
                kind in {LookKind.USABLE, LookKind.EMPTY} and held.reason is not Reason.SAMPLE_RATIO_MISMATCH
            )
            reason = Reason.DEADLINE_HOLD if in_sight else held.reason
            return Finding(Action.HOLD, reason, held.metrics, deadline_passed=True)
        case OnDeadline.THRESHOLD:
            if kind is not LookKind.USABLE or held.reason is Reason.SAMPLE_RATIO_MISMATCH:
                return Finding(Action.HOLD, held.reason, held.metrics, deadline_passed=True)
            return _get_threshold_finding(state, step, kind, list_deciding(readings))
        case _:
            assert_never(policy)


def _get_threshold_finding(
    state: State, step: StepConfig, kind: LookKind, deciding: list[Reading]
) -> Finding:
    violated = _list_names(
        r for r in deciding if r.is_measured and not r.is_short and (r.is_violated or r.is_beyond_limits)
    )
    if violated:
        return Finding(Action.ROLL_BACK, Reason.DEADLINE_THRESHOLD_VIOLATED, violated, deadline_passed=True)
    missing = _list_names(r for r in deciding if not r.is_measured)
    if missing or not deciding:
        return Finding(Action.HOLD, Reason.EVIDENCE_MISSING, missing, deadline_passed=True)
    short = _list_names(r for r in deciding if r.is_short)
    if short:
        return Finding(Action.HOLD, Reason.MIN_SAMPLES, short, deadline_passed=True)
    forward = _get_forward(state, step, kind, Reason.DEADLINE_THRESHOLD_PASSED)
    return Finding(forward.action, forward.reason, deadline_passed=True)


def _get_bake_finding(state: State, kind: LookKind) -> Finding:
    blind = _find_blindness(kind)
    if blind is not None:
        return blind
    if state.clock.observed >= state.config.bake - SLACK:
        return Finding(Action.PROMOTE, Reason.BAKE_COMPLETE)
    return Finding(Action.HOLD, Reason.BAKING)


def _list_names(readings: Iterable[Reading]) -> tuple[str, ...]:
    return tuple(reading.metric.name for reading in readings)
