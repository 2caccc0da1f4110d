"""State and finding to the Verdict that decide, status and people read.

The last station of a look.
"""

import math

from dspy_operator.api.choices import MetricType, Mode
from dspy_operator.rollout.judging.plan import LOOKS, Arms, find_samples_to_promote, find_samples_to_roll_back
from dspy_operator.rollout.judging.readings import Reading, get_rollout_ln_e, list_readings
from dspy_operator.rollout.judging.rules import Finding, LookKind, get_finding
from dspy_operator.rollout.judging.sample_ratio import get_ratio_ln_e
from dspy_operator.rollout.judging.state import State
from dspy_operator.rollout.judging.verdicts import Action, MetricAnswer, MetricVerdict, Reason, Verdict
from dspy_operator.rollout.judging.wording import (
    get_coverage_warning,
    get_dispersion_warning,
    get_drop_text,
    get_message,
    get_metric_message,
)

MOST_SAMPLES_NEEDED = 10**9


def build_verdict(state: State, kind: LookKind, t: float) -> Verdict:
    """What the state says at `t`, after a look of this kind."""
    readings = list_readings(state)
    elapsed = t - state.clock.started - state.clock.waited
    finding = get_finding(state, kind, readings, elapsed)
    return Verdict(
        action=finding.action,
        answer=_get_answer(finding, readings),
        reason=finding.reason,
        message=get_message(state, finding, readings, elapsed),
        metrics=tuple(_build_metric_verdict(state, reading) for reading in readings),
        step=state.step,
        t=t,
        gate_open=finding.reason is Reason.AWAITING_PROMOTION,
        skipped=tuple(r.metric.name for r in readings if r.is_skipped and not r.metric.dry_run),
        observed=state.clock.observed,
        ln_e_rollback=get_rollout_ln_e(readings),
        ln_e_ratio=get_ratio_ln_e(state.ratio_evidence),
        deadline_passed=finding.deadline_passed,
    )


def _get_answer(finding: Finding, readings: list[Reading]) -> MetricAnswer:
    match finding.action:
        case Action.ROLL_BACK:
            return MetricAnswer.ROLL_BACK
        case Action.PROMOTE | Action.ADVANCE:
            return MetricAnswer.PROMOTE
        case Action.HOLD:
            measured = any(reading.is_measured for reading in readings if not reading.metric.dry_run)
            return MetricAnswer.WAIT if measured else MetricAnswer.UNMEASURED


def _build_metric_verdict(state: State, reading: Reading) -> MetricVerdict:
    firing = -math.log(state.config.alpha)
    deciding = max(1, len(state.config.deciding))
    rollback = max(0.0, reading.ln_e_rollback - math.log(deciding)) / firing
    promote = max(0.0, reading.ln_e_promote) / firing
    answer, reason = _get_metric_answer(state, reading, rollback, promote)
    coverage = get_coverage_warning(state, reading)
    told = (get_metric_message(reading), coverage, get_dispersion_warning(reading))
    return MetricVerdict(
        name=reading.metric.name,
        verdict=answer,
        reason=reason,
        message="; ".join(part for part in told if part),
        drop=reading.drop,
        drop_text=get_drop_text(reading),
        canary_samples=reading.memory.step.canary_n,
        stable_samples=reading.memory.step.stable_n,
        required_samples=reading.required,
        ln_e_rollback=reading.ln_e_rollback,
        ln_e_promote=reading.ln_e_promote,
        evidence_rollback=rollback,
        evidence_promote=promote,
        samples_needed=_find_samples_needed(state, reading),
        dispersion=reading.memory.dispersion.factor,
        dry_run=reading.metric.dry_run,
        coverage=coverage,
    )


def _get_metric_answer(
    state: State, reading: Reading, rollback: float, promote: float
) -> tuple[MetricAnswer, Reason]:
    if not reading.is_measured:
        return MetricAnswer.UNMEASURED, Reason.EVIDENCE_MISSING
    if state.config.mode is Mode.THRESHOLD:
        return _get_threshold_answer(reading)
    if rollback >= 1:
        return MetricAnswer.ROLL_BACK, Reason.EVIDENCE_OF_REGRESSION
    if reading.is_short or reading.is_violated or reading.is_beyond_limits:
        return MetricAnswer.WAIT, Reason.MIN_SAMPLES if reading.is_short else Reason.DROP_ABOVE_MARGIN
    if promote >= 1:
        return MetricAnswer.PROMOTE, Reason.EVIDENCE_OF_QUALITY
    return MetricAnswer.WAIT, Reason.COLLECTING_EVIDENCE


def _get_threshold_answer(reading: Reading) -> tuple[MetricAnswer, Reason]:
    if reading.is_short:
        return MetricAnswer.WAIT, Reason.MIN_SAMPLES
    if reading.is_violated:
        return MetricAnswer.ROLL_BACK, Reason.THRESHOLD_VIOLATED
    if reading.is_beyond_limits:
        return MetricAnswer.WAIT, Reason.DROP_ABOVE_MARGIN
    return MetricAnswer.PROMOTE, Reason.THRESHOLD_PASSED


def _find_samples_needed(state: State, reading: Reading) -> int | None:
    """Canary samples of this step that today's estimate asks for; None where it says neither good nor bad."""
    if state.is_baking or state.step == 0 or reading.drop is None or not 0 < state.share < 1:
        return None
    metric, memory = reading.metric, reading.memory
    if metric.type is MetricType.COST_PER_REQUEST:
        return None
    arms = Arms(memory.stable.mean, memory.canary.variance, memory.stable.variance, state.share)
    if reading.is_violated:
        needed = find_samples_to_roll_back(state.config, metric, arms, reading.drop)
    elif state.is_last_step and state.config.mode is Mode.EVIDENCE:
        needed = find_samples_to_promote(state.config, metric, arms, reading.drop)
    else:
        return reading.required
    if needed is None or needed > MOST_SAMPLES_NEEDED:
        return None
    per_look = memory.step.canary_n / max(1, memory.step.looks)
    return max(reading.required, math.ceil(needed + LOOKS * per_look))
