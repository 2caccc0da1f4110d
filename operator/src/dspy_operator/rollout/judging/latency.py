"""LatencyP95: which bounds are too slow, and the absolute test on the canary's share above its bound.

The relative test is the engine's, on x = 1 for a fast request.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dspy_operator.rollout.judging.config import MetricConfig, Reference
from dspy_operator.rollout.judging.engine import LOOK_CAP, Null
from dspy_operator.rollout.judging.looks import Counts, Histogram

SLOW_SHARE = 0.05
"""A p95 above a bound means that more than this share of requests is slower than it."""

SLOW_SHARES_TO_ROLL_BACK = (0.075, 0.1, 0.15, 0.25, 0.5, 0.8)
SLOW_SHARE_TO_REFUSE = 0.10
SLOW_SHARES_TO_PROMOTE = (0.01, 0.02, 0.035, 0.05)

FAST_MEAN = 0.95
FAST_VARIANCE = 0.0475

# tau as for scores: with 0 throughout, a canary twice as slow is found one look of 50 + 450 requests later.
ROLLBACK_NULL = Null(1, 1.0, 0.0, is_relative=False, components=((0.05, 0.0), (0.15, 1.0), (0.5, 1.0)))
PROMOTE_NULL = Null(-1, 1.0, 0.05, is_relative=False, components=((0.05, 0.0),))


@dataclass(frozen=True, slots=True)
class LatencyLimits:
    """Frozen bounds in seconds; None: the histogram has none there.

    `canary` (T) is what canary requests are counted above, `stable` (T2) stable's, `absolute` the bound of
    `max`.
    """

    p95: float
    canary: float | None
    stable: float | None
    absolute: float | None

    @property
    def is_measurable(self) -> bool:
        """Whether the histogram can tell slow from fast at this limit."""
        return self.canary is not None and self.stable is not None


def find_latency_limits(metric: MetricConfig, reference: Reference) -> LatencyLimits | None:
    """T, T2 and the bound of `max`; None if the reference has no p95 (looks then bring `bad` themselves)."""
    if reference.p95 is None:
        return None
    bounds = sorted(bound for bound in reference.bounds if math.isfinite(bound))
    canary = _find_least_at_or_above(bounds, (1 + metric.margin) * reference.p95)
    stable = None
    if canary is not None:
        below = canary / (1 + metric.margin)
        stable = max((bound for bound in bounds if bound <= below * (1 + 1e-9)), default=None)
    absolute = None if metric.max is None else _find_least_at_or_above(bounds, metric.max)
    return LatencyLimits(reference.p95, canary, stable, absolute)


def find_p95(histogram: Histogram, total: float) -> float | None:
    """The 95th percentile in seconds by linear interpolation, as Prometheus does; None without samples.

    Above the last finite bound it is that bound.
    """
    rank = 0.95 * total
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in histogram:
        if not math.isfinite(bound):
            break
        if count >= rank and count > lower_count:
            return lower_bound + (bound - lower_bound) * (rank - lower_count) / (count - lower_count)
        lower_bound, lower_count = bound, count
    return lower_bound if total > 0 and lower_bound > 0 else None


def find_counted(counts: Counts, bound: float | None, absolute: float | None) -> Counts | None:
    """The increment with its histogram reduced to `bad` and `over`; None if a bound is missing from it."""
    if not counts.histogram:
        return counts
    within = dict(counts.histogram)
    if bound not in within or (absolute is not None and absolute not in within):
        return None
    slow = max(0.0, counts.n - within[bound])
    over = 0.0 if absolute is None else max(0.0, counts.n - within[absolute])
    return Counts(n=counts.n, bad=slow, over=over)


def list_rollback_gains(n: float, slow: float, dispersion: float) -> list[float]:
    """What `slow` of `n` canary requests add against "at most 5 % are slow"."""
    return _list_gains(n, slow, SLOW_SHARE, SLOW_SHARES_TO_ROLL_BACK, dispersion)


def list_promote_gains(n: float, slow: float, dispersion: float) -> list[float]:
    """The same against "at least 10 % are slow"."""
    return _list_gains(n, slow, SLOW_SHARE_TO_REFUSE, SLOW_SHARES_TO_PROMOTE, dispersion)


def _list_gains(
    n: float, slow: float, null: float, shares: Sequence[float], dispersion: float
) -> list[float]:
    return [
        min((slow * math.log(q / null) + (n - slow) * math.log((1 - q) / (1 - null))) / dispersion, LOOK_CAP)
        for q in shares
    ]


def _find_least_at_or_above(bounds: Sequence[float], value: float) -> float | None:
    return min((bound for bound in bounds if bound >= value * (1 - 1e-9)), default=None)
