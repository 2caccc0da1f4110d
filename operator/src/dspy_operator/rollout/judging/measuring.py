"""One metric's memory through a rollout: its start, each step's start, each look, the bake.

Called by `sequence` for every metric; the arithmetic is the engine's, latency's and cost's.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace

from dspy_operator.api.choices import MetricType
from dspy_operator.rollout.judging import cost, latency
from dspy_operator.rollout.judging.config import MetricConfig, Reference
from dspy_operator.rollout.judging.dispersion import build_dispersion, build_step_dispersion
from dspy_operator.rollout.judging.engine import (
    Null,
    build_bake_null,
    build_estimates,
    build_promote_null,
    build_rollback_null,
    list_bake_gains,
    list_gains,
)
from dspy_operator.rollout.judging.looks import NO_COUNTS, Counts, is_consistent
from dspy_operator.rollout.judging.moments import NO_MOMENTS, Moments, build_prior
from dspy_operator.rollout.judging.state import Baseline, Carried, Cells, MetricState, StepTotals

WAITS = 600.0
"""Seconds after which increments that found no partner are dropped."""

WAITING_ENTRY = 60.0
"""Seconds of increments that wait as one entry, so that at most eleven are kept."""

LEAST_SCORES = 20.0
LEAST_REQUESTS = 100.0
"""What stable needs in this attempt before a reference is frozen, where its past is unknown."""


def build_metric_start(metric: MetricConfig, reference: Reference | None) -> MetricState:
    """The memory when the rollout starts; None: stable's past is unknown."""
    if metric.type is MetricType.COST_PER_REQUEST:
        return MetricState(reference=Reference())
    if reference is None:
        return MetricState()
    return _build_referenced(MetricState(), metric, reference)


def build_metric_step(metric: MetricConfig, old: MetricState, row_count: int) -> MetricState:
    """At a step start: rollback evidence gets rows up to `row_count`, the step's own sums start again."""
    absolute = metric.type is MetricType.LATENCY_P95
    return replace(
        old,
        rows=_build_rows(old.rows, row_count, get_rollback_width(metric)),
        promote=(0.0,) * _get_promote_width(metric),
        absolute_rows=_build_rows(
            old.absolute_rows, row_count if absolute else 0, len(latency.SLOW_SHARES_TO_ROLL_BACK)
        ),
        absolute_promote=(0.0,) * (len(latency.SLOW_SHARES_TO_PROMOTE) if absolute else 0),
        dispersion=build_step_dispersion(old.dispersion),
        block=(NO_COUNTS, NO_COUNTS),
        step=StepTotals(),
        carried=(),
        scored=(0.0, 0.0),
    )


def build_metric_bake(metric: MetricConfig, old: MetricState, row_count: int) -> MetricState:
    """At 100 %: stable's mean is frozen; its arm is gone."""
    fresh = build_metric_step(metric, old, row_count)
    if not goes_on_in_bake(metric) or old.reference is None:
        return fresh
    return replace(fresh, frozen_mean=old.stable.mean)


def goes_on_in_bake(metric: MetricConfig) -> bool:
    """Whether the metric can be held against a frozen mean; a latency or a cost drifts with the provider."""
    return metric.type in {MetricType.SCORE, MetricType.ERROR_RATE, MetricType.RATIO}


def build_measured(
    metric: MetricConfig, old: MetricState, t: float, arms: tuple[Counts, Counts]
) -> MetricState:
    """The memory after one settled look's increments (canary, stable); inconsistent ones change nothing."""
    counted = find_counted_arms(metric, old, arms)
    if counted is None:
        return old
    canary, stable = counted
    if canary.n > 0 and not old.step.seen:
        old = replace(old, step=replace(old.step, seen=True))
    if metric.type is MetricType.SCORE:
        old = replace(old, scored=(old.scored[0] + canary.n, old.scored[1] + stable.n))
    if old.reference is None:
        return _build_baseline(metric, old, stable)
    if old.limits is not None and not old.limits.is_measurable:
        return old
    return _build_joined(metric, old, t, counted)


def _build_joined(
    metric: MetricConfig, old: MetricState, t: float, arms: tuple[Counts, Counts]
) -> MetricState:
    """The look is consumed, with what waited for it, when both arms have samples (in bake: the canary)."""
    waiting = tuple(entry for entry in old.carried if t - entry.t < WAITS)
    canary = sum((entry.canary for entry in waiting), NO_COUNTS) + arms[0]
    stable = sum((entry.stable for entry in waiting), NO_COUNTS) + arms[1]
    if old.frozen_mean is not None:
        return _build_baked(metric, old, canary, old.frozen_mean) if canary.n > 0 else old
    if canary.n > 0 and stable.n > 0:
        consumed = _build_consumed(metric, old, canary, stable)
        return replace(consumed, carried=()) if consumed.carried else consumed
    return replace(old, carried=_list_carried(waiting, t, arms))


def find_counted_arms(
    metric: MetricConfig, old: MetricState, arms: tuple[Counts, Counts]
) -> tuple[Counts, Counts] | None:
    """The increments as the tests read them; None if they cannot be those of real, measurable samples."""
    if not all(is_consistent(metric.type, counts) for counts in arms):
        return None
    canary, stable = arms
    match metric.type:
        case MetricType.COST_PER_REQUEST:
            return None if canary.bad > 0 or stable.bad > 0 else arms
        case MetricType.LATENCY_P95 if old.reference is not None:
            return _find_latency_counted(old.limits, canary, stable)
        case _:
            return arms


def _find_latency_counted(
    limits: latency.LatencyLimits | None, canary: Counts, stable: Counts
) -> tuple[Counts, Counts] | None:
    if limits is None:
        return None if canary.histogram or stable.histogram else (canary, stable)
    if not limits.is_measurable:
        return canary, stable
    reduced = latency.find_counted(canary, limits.canary, limits.absolute)
    reduced_stable = latency.find_counted(stable, limits.stable, None)
    return None if reduced is None or reduced_stable is None else (reduced, reduced_stable)


def _list_carried(waiting: tuple[Carried, ...], t: float, arms: tuple[Counts, Counts]) -> tuple[Carried, ...]:
    canary, stable = arms
    if canary.n == 0 and stable.n == 0:
        return waiting
    if waiting and t - waiting[-1].t < WAITING_ENTRY:
        last = waiting[-1]
        return (*waiting[:-1], Carried(last.t, last.canary + canary, last.stable + stable))
    return (*waiting, Carried(t, canary + NO_COUNTS, stable + NO_COUNTS))


def _build_baseline(metric: MetricConfig, old: MetricState, stable: Counts) -> MetricState:
    sums = old.baseline.sums + _get_moments(metric, stable)
    known = dict(old.baseline.histogram)
    latest = dict(stable.histogram)
    if known and latest and known.keys() != latest.keys():
        sums, known = _get_moments(metric, stable), {}
    histogram = tuple(
        (bound, known.get(bound, 0.0) + latest.get(bound, 0.0)) for bound in sorted(known | latest)
    )
    needed = LEAST_SCORES if metric.type is MetricType.SCORE else LEAST_REQUESTS
    grown = replace(old, baseline=Baseline(sums, histogram))
    if sums.n < needed:
        return grown
    mean = sums.total / sums.n
    reference = Reference(
        mean=mean,
        variance=max(0.0, sums.squares / sums.n - mean**2),
        p95=latency.find_p95(histogram, sums.n),
        bounds=tuple(bound for bound, _ in histogram),
    )
    return _build_referenced(replace(old, baseline=Baseline()), metric, reference)


def _build_referenced(old: MetricState, metric: MetricConfig, reference: Reference) -> MetricState:
    is_latency = metric.type is MetricType.LATENCY_P95
    mean = latency.FAST_MEAN if is_latency else reference.mean
    variance = latency.FAST_VARIANCE if is_latency else reference.variance
    return replace(
        old,
        reference=replace(reference, bounds=()),
        limits=latency.find_latency_limits(metric, reference) if is_latency else None,
        canary=build_prior(reference.canary_weight, mean, variance),
        stable=build_prior(reference.stable_weight, mean, variance),
    )


def _build_consumed(metric: MetricConfig, old: MetricState, canary: Counts, stable: Counts) -> MetricState:
    step = _build_totals(metric, old.step, canary, stable)
    if metric.type is MetricType.COST_PER_REQUEST:
        return _build_cost(metric, replace(old, step=step), canary, stable)
    null_r, null_p = get_nulls(metric)
    before = build_estimates(old.canary, old.stable)
    c, s = _get_moments(metric, canary), _get_moments(metric, stable)
    factor = old.dispersion.factor
    new = replace(
        old,
        rows=_list_grown(old.rows, list_gains(null_r, before, c, s, factor)),
        promote=_get_grown(old.promote, list_gains(null_p, before, c, s, factor)),
        canary=old.canary + c,
        stable=old.stable + s,
        dispersion=build_dispersion(old.dispersion, before, c, s, null_r.ratio),
        step=step,
    )
    if metric.type is not MetricType.LATENCY_P95:
        return new
    slow = canary.bad
    return replace(
        new,
        absolute_rows=_list_grown(old.absolute_rows, latency.list_rollback_gains(canary.n, slow, factor)),
        absolute_promote=_get_grown(old.absolute_promote, latency.list_promote_gains(canary.n, slow, factor)),
    )


def _build_baked(metric: MetricConfig, old: MetricState, canary: Counts, frozen_mean: float) -> MetricState:
    before = replace(build_estimates(old.canary, old.stable), stable=frozen_mean)
    c = _get_moments(metric, canary)
    gains = list_bake_gains(build_bake_null(metric), before, c, frozen_mean, old.dispersion.factor)
    step = replace(
        old.step,
        looks=old.step.looks + 1,
        canary_n=old.step.canary_n + c.n,
        canary_sum=old.step.canary_sum + c.total,
        paired_canary=old.step.paired_canary + c.total,
        paired_stable=old.step.paired_stable + c.n * frozen_mean,
        paired_n=old.step.paired_n + c.n,
    )
    return replace(
        old,
        rows=(*old.rows[:-1], _get_grown(old.rows[-1], gains)) if old.rows else (),
        canary=old.canary + c,
        dispersion=build_dispersion(old.dispersion, before, c, NO_MOMENTS, 1.0),
        step=step,
    )


def _build_cost(metric: MetricConfig, old: MetricState, canary: Counts, stable: Counts) -> MetricState:
    block_c, block_s = old.block[0] + canary, old.block[1] + stable
    if block_c.n < cost.BLOCK or block_s.n < cost.BLOCK:
        return replace(old, block=(block_c, block_s))
    dearer = cost.is_dearer(block_c.sum, block_c.n, block_s.sum, block_s.n, metric.margin)
    return replace(
        old,
        block=(NO_COUNTS, NO_COUNTS),
        rows=_list_grown(old.rows, cost.list_gains(hit=dearer)),
        promote=_get_grown(old.promote, cost.list_gains(hit=not dearer)),
    )


def _build_totals(metric: MetricConfig, old: StepTotals, canary: Counts, stable: Counts) -> StepTotals:
    if metric.type is MetricType.COST_PER_REQUEST:
        c, s = Moments(canary.n, canary.sum), Moments(stable.n, stable.sum)
    else:
        c, s = _get_moments(metric, canary), _get_moments(metric, stable)
    both = c.n + s.n
    return StepTotals(
        looks=old.looks + 1,
        canary_n=old.canary_n + c.n,
        stable_n=old.stable_n + s.n,
        canary_sum=old.canary_sum + c.total,
        stable_sum=old.stable_sum + s.total,
        over=old.over + canary.over,
        paired_canary=old.paired_canary + c.total * s.n / both,
        paired_stable=old.paired_stable + s.total * c.n / both,
        paired_n=old.paired_n + c.n * s.n / both,
        seen=True,
    )


@functools.lru_cache(maxsize=256)
def get_nulls(metric: MetricConfig) -> tuple[Null, Null]:
    """The null hypotheses of tests R and P below 100 %."""
    if metric.type is MetricType.LATENCY_P95:
        return latency.ROLLBACK_NULL, latency.PROMOTE_NULL
    return build_rollback_null(metric), build_promote_null(metric)


def _get_moments(metric: MetricConfig, counts: Counts) -> Moments:
    if metric.type is MetricType.SCORE:
        return Moments(counts.n, counts.sum, counts.sum if counts.sumsq is None else counts.sumsq)
    good = counts.n - counts.bad
    return Moments(counts.n, good, good)


def get_rollback_width(metric: MetricConfig) -> int:
    """Components of one row of test R."""
    if metric.type is MetricType.COST_PER_REQUEST:
        return len(cost.SHARES)
    return len(get_nulls(metric)[0].components)


def _get_promote_width(metric: MetricConfig) -> int:
    if metric.type is MetricType.COST_PER_REQUEST:
        return len(cost.SHARES)
    return len(get_nulls(metric)[1].components)


def _build_rows(old: tuple[Cells, ...], row_count: int, width: int) -> tuple[Cells, ...]:
    return old + ((0.0,) * width,) * (row_count - len(old))


def _list_grown(rows: tuple[Cells, ...], gains: Sequence[float]) -> tuple[Cells, ...]:
    return tuple(_get_grown(row, gains) for row in rows)


def _get_grown(cells: Cells, gains: Sequence[float]) -> Cells:
    return tuple(cell + gain for cell, gain in zip(cells, gains, strict=True))
