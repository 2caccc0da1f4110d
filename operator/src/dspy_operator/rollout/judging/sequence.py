"""The judge's walk: start, enter each step, judge every look, bake.

The only entrance for `decide` and the command line; pure, so that replaying the same calls gives the same
verdicts.
"""

from collections.abc import Mapping
from dataclasses import replace

from dspy_operator.rollout.judging.config import Reference, RolloutConfig
from dspy_operator.rollout.judging.looks import (
    NO_COUNTS,
    NO_NUMBERS,
    Counts,
    Look,
    build_rounded,
    is_consistent,
)
from dspy_operator.rollout.judging.measuring import (
    build_measured,
    build_metric_bake,
    build_metric_start,
    build_metric_step,
    find_counted_arms,
)
from dspy_operator.rollout.judging.reporting import build_verdict
from dspy_operator.rollout.judging.rules import LookKind
from dspy_operator.rollout.judging.sample_ratio import build_ratio_evidence
from dspy_operator.rollout.judging.state import Clock, MetricState, State
from dspy_operator.rollout.judging.verdicts import Reason, Verdict

LONGEST_DWELL = 3
"""Intervals that one look may count as observed time: blind time is not dwell."""

OUTAGE_ERRORS = 5
OUTAGE_SHARE = 0.1


def start(config: RolloutConfig, references: Mapping[str, Reference], t: float) -> State:
    """The state at `t` (Unix seconds), in step 1; metrics without a reference collect one from stable.

    Where no step lies below 100 % (blue-green) the step is 0 and nothing is judged before `enter_bake`.
    """
    metrics = tuple(build_metric_start(metric, references.get(metric.name)) for metric in config.metrics)
    state = State(config, Clock(t, t), step=0, is_baking=False, metrics=metrics)
    return enter_step(state, 1, t) if config.judged_steps else state


def enter_step(state: State, step: int, t: float) -> State:
    """Step `step` (from 1) has its weight since `t`: fresh promotion evidence, one more rollback row.

    Also for a weight changed by hand; entering a step twice is harmless.

    Raises:
        ValueError: if there is no such step below 100 %.
    """
    judged = state.config.judged_steps
    if not 1 <= step <= len(judged):
        raise ValueError(f"there is no judged step {step}, only 1 to {len(judged)}")
    metrics = tuple(
        build_metric_step(metric, memory, step)
        for metric, memory in zip(state.config.metrics, state.metrics, strict=True)
    )
    return _build_entered(state, step, t, metrics, judged[step - 1].weight / 100)


def enter_bake(state: State, t: float) -> State:
    """100 % is in effect since `t`: score, errors and ratios go on against stable's frozen mean.

    Raises:
        ValueError: if the rollout has no bake.
    """
    if state.config.bake <= 0:
        raise ValueError("this rollout has no bake")
    metrics = tuple(
        build_metric_bake(metric, memory, state.config.row_count)
        for metric, memory in zip(state.config.metrics, state.metrics, strict=True)
    )
    return _build_entered(state, len(state.config.judged_steps) + 1, t, metrics, 1.0)


def resume(state: State, t: float) -> State:
    """A pause ended at `t`: observed time and the deadline's clock start again, evidence stays."""
    return replace(state, clock=Clock(t, t))


def judge(state: State, look: Look) -> tuple[State, Verdict]:
    """One look. A look that is not later than the last one changes nothing and holds."""
    look = build_rounded(look)
    if not look.t > state.clock.last:
        return state, judge_blind(state, state.clock.last)
    kind = _get_kind(state, look)
    clock = _build_clock(state, look, kind)
    state = replace(state, clock=clock, provider_outage=_get_outage(look))
    if kind in {LookKind.USABLE, LookKind.EMPTY}:
        state = _build_measured_state(state, look)
    verdict = build_verdict(state, kind, look.t)
    # The deadline does not run while a person is asked; a look that saw nothing leaves that as it was.
    if kind in {LookKind.USABLE, LookKind.EMPTY}:
        waiting = verdict.reason is Reason.AWAITING_PROMOTION
        if waiting is not state.clock.is_waiting:
            state = replace(state, clock=replace(state.clock, is_waiting=waiting))
    return state, verdict


def build_judged(state: State, look: Look) -> Look:
    """The look as it is judged and recorded: 6 decimals, a histogram reduced to what lies above the frozen bounds."""
    look = build_rounded(look)
    metrics = dict(look.metrics)
    for metric, memory in zip(state.config.metrics, state.metrics, strict=True):
        if metric.name in metrics and memory.limits is not None and memory.limits.is_measurable:
            counted = find_counted_arms(metric, memory, metrics[metric.name])
            metrics[metric.name] = counted or (NO_NUMBERS, NO_NUMBERS)
    return replace(look, metrics=metrics)


def judge_blind(state: State, t: float) -> Verdict:
    """The verdict at `t` when no look could be had: only a deadline's Promote or Rollback acts.

    Nothing is remembered: the next look covers the gap.
    """
    waited = t - state.clock.last if state.clock.is_waiting else 0.0
    clock = replace(state.clock, waited=state.clock.waited + waited)
    return build_verdict(replace(state, clock=clock), LookKind.BLIND, t)


def _build_entered(
    state: State, step: int, t: float, metrics: tuple[MetricState, ...], share: float
) -> State:
    """A step's first state. What the last look said of the provider stays, what it said of the split does not."""
    return State(
        config=state.config,
        clock=Clock(t, t),
        step=step,
        is_baking=step > len(state.config.judged_steps),
        metrics=metrics,
        provider_outage=state.provider_outage,
        share=share,
    )


def _build_clock(state: State, look: Look, kind: LookKind) -> Clock:
    passed = look.t - state.clock.last
    dwell = min(passed, LONGEST_DWELL * state.config.interval) if kind is LookKind.USABLE else 0.0
    return replace(
        state.clock,
        last=look.t,
        waited=state.clock.waited + (passed if state.clock.is_waiting else 0.0),
        observed=state.clock.observed + dwell,
    )


def _build_measured_state(state: State, look: Look) -> State:
    metrics = tuple(
        _build_memory(state, index, look.t, look.metrics.get(metric.name))
        for index, metric in enumerate(state.config.metrics)
    )
    if not 0 < look.share < 1:
        return replace(state, metrics=metrics)
    canary, stable = look.requests
    evidence = build_ratio_evidence(
        state.ratio_evidence, canary, stable, look.share, is_sticky=state.config.is_sticky
    )
    counts = (state.ratio_counts[0] + canary, state.ratio_counts[1] + stable)
    return replace(
        state,
        metrics=metrics,
        ratio_evidence=evidence,
        ratio_counts=counts,
        share=look.share,
        successes=(state.successes[0] + look.successes[0], state.successes[1] + look.successes[1]),
        fallbacks=state.fallbacks + look.fallbacks,
    )


def _build_memory(state: State, index: int, t: float, arms: tuple[Counts, Counts] | None) -> MetricState:
    memory = state.metrics[index]
    is_idle = state.step == 0 or (state.is_baking and memory.frozen_mean is None)
    if arms is None or is_idle:
        return memory
    return build_measured(state.config.metrics[index], memory, t, arms)


def _get_kind(state: State, look: Look) -> LookKind:
    if not look.settled:
        return LookKind.UNSETTLED
    if state.provider_outage[0 if state.is_baking else 1]:
        return LookKind.OUTAGE
    return LookKind.USABLE if _has_samples(state, look) else LookKind.EMPTY


def _has_samples(state: State, look: Look) -> bool:
    """Whether a deciding metric has samples in one arm (bake: the canary's): only then time was observed."""
    for metric in state.config.deciding:
        canary, stable = look.metrics.get(metric.name, (NO_COUNTS, NO_COUNTS))
        if not is_consistent(metric.type, canary) or not is_consistent(metric.type, stable):
            continue
        if canary.n > 0 or (stable.n > 0 and not state.is_baking):
            return True
    return False


def _get_outage(look: Look) -> tuple[bool, bool]:
    return (
        _is_outage(look.requests[0], look.provider_errors[0]),
        _is_outage(look.requests[1], look.provider_errors[1]),
    )


def _is_outage(requests: float, errors: float) -> bool:
    return errors >= OUTAGE_ERRORS and errors >= OUTAGE_SHARE * requests
