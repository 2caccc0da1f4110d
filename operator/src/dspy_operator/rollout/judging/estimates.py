"""The step's point estimates and the literal rules on them: margins and absolute limits.

Read by `readings`; the same numbers are what people see as `drop`.
"""

from dspy_operator.api.choices import MetricType
from dspy_operator.rollout.judging.config import MetricConfig
from dspy_operator.rollout.judging.latency import SLOW_SHARE
from dspy_operator.rollout.judging.state import StepTotals

SLACK = 1e-9
"""Exactly at the margin passes, whatever the last bit says."""


def find_drop(metric: MetricConfig, step: StepTotals) -> float | None:
    """How much worse the canary is: a fraction, or points / 100; None where that has no meaning."""
    if step.canary_n <= 0:
        return None
    match metric.type:
        case MetricType.SCORE:
            return None if step.paired_stable <= 0 else 1 - step.paired_canary / step.paired_stable
        case MetricType.ERROR_RATE | MetricType.RATIO:
            return (step.paired_stable - step.paired_canary) / step.paired_n if step.paired_n > 0 else None
        case MetricType.LATENCY_P95:
            return None if step.stable_n <= 0 else _get_slow(step) - (1 - step.stable_sum / step.stable_n)
        case MetricType.COST_PER_REQUEST:
            if step.stable_sum <= 0:
                return None
            return step.canary_sum / step.canary_n / (step.stable_sum / step.stable_n) - 1


def is_beyond_margin(metric: MetricConfig, step: StepTotals) -> bool:
    """The literal rule on the step's samples: worse by *more than* the margin."""
    drop = find_drop(metric, step)
    if drop is None:
        return False
    if metric.type is MetricType.LATENCY_P95:
        return _get_slow(step) > SLOW_SHARE + SLACK and drop > SLACK
    return drop > metric.margin + SLACK


def is_beyond_limits(metric: MetricConfig, step: StepTotals) -> bool:
    """Whether the canary's samples of the step break `min` or `max`."""
    if step.canary_n <= 0:
        return False
    if metric.type is MetricType.LATENCY_P95:
        return metric.max is not None and step.over / step.canary_n > SLOW_SHARE + SLACK
    value = get_level(metric, step)
    too_low = metric.min is not None and value < metric.min - SLACK
    too_high = metric.max is not None and value > metric.max + SLACK
    return too_low or too_high


def get_level(metric: MetricConfig, step: StepTotals) -> float:
    """The canary's own mean score, share of bad (slow) requests, or US dollars a request; it has samples."""
    mean = step.canary_sum / step.canary_n
    return mean if metric.type in {MetricType.SCORE, MetricType.COST_PER_REQUEST} else 1 - mean


def _get_slow(step: StepTotals) -> float:
    return 1 - step.canary_sum / step.canary_n
