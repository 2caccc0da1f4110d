"""What counts: one pod's increments as one metric's counts of one arm.

Called by `looks.py`; pure. None means that the pod said nothing of it (yet), which is not the same as zero.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from dspy_operator.api.names import PROVIDER_CLASSES, CacheLabel, Label, Metric
from dspy_operator.metrics.queries import DURATION_BUCKET, DURATION_COUNT
from dspy_operator.metrics.readings import CounterKey
from dspy_operator.rollout.judging import Counts, LatencyLimits, MetricConfig, MetricType

Increments: TypeAlias = Mapping[CounterKey, float]

CLIENT_ERROR: Final = "4"
SERVER_ERROR: Final = "5"
FEEDBACK: Final = "/feedback"
"""The one route with a revision that asks no program."""


@dataclass(frozen=True)
class Arm:
    """One side of the comparison, for one metric.

    Attributes:
        revision: whose counters.
        source: of the score, or the counter of a Ratio; None: not known yet.
        limits: of the latency; None: not frozen yet.
        bound: the limit of this arm.
    """

    revision: str
    source: str | None = None
    limits: LatencyLimits | None = None
    bound: float | None = None


def count_metric(metric: MetricConfig, arm: Arm, increments: Increments) -> Counts | None:
    """The increments of one pod, arm and metric."""
    match metric.type:
        case MetricType.SCORE:
            return _count_scores(arm, increments)
        case MetricType.ERROR_RATE:
            return _count_errors(arm, increments)
        case MetricType.RATIO:
            return _count_ratio(arm, increments)
        case MetricType.LATENCY_P95:
            return _count_latency(arm, increments)
        case MetricType.COST_PER_REQUEST:
            return _count_cost(arm, increments)


def count_requests(revision: str, pods: Iterable[Increments]) -> float:
    """All requests that the split sent to a revision, whatever became of them."""
    return sum(_sum(_requests(revision, increments)) for increments in pods)


def count_provider_errors(revision: str, pods: Iterable[Increments]) -> float:
    """Errors that speak of the LM provider, and calls that went on to another model."""
    total = 0.0
    for increments in pods:
        failed = _of(Metric.PROGRAM_ERRORS, revision, increments)
        total += sum(value for key, value in failed.items() if key.get_label(Label.CLASS) in PROVIDER_CLASSES)
        total += _sum(_of(Metric.FALLBACKS, revision, increments))
    return total


def count_successes(revision: str, pods: Iterable[Increments]) -> float:
    """Requests whose answers could be scored: successful ones that no cache answered."""
    return sum(_sum(_fresh(revision, increments)) for increments in pods)


def count_fallbacks(revision: str, pods: Iterable[Increments]) -> float:
    """Requests that were a revision's and that stable answered, as the pod had not loaded it."""
    return sum(_sum(_of(Metric.ROUTE_FALLBACK, revision, increments)) for increments in pods)


def add(counts: Iterable[Counts]) -> Counts:
    """The sum over pods; of histograms the bounds that all have."""
    total = Counts()
    for index, one in enumerate(counts):
        total = one if index == 0 else _add(total, one)
    return total


def _add(one: Counts, other: Counts) -> Counts:
    theirs = dict(other.histogram)
    summed = one + other
    histogram = tuple((bound, n + theirs[bound]) for bound, n in one.histogram if bound in theirs)
    return Counts(summed.n, summed.sum, summed.sumsq, summed.bad, summed.over, histogram)


def _count_scores(arm: Arm, increments: Increments) -> Counts | None:
    moments = [
        _of_source(name, arm, increments)
        for name in (Metric.SCORE_SAMPLES, Metric.SCORE_SUM, Metric.SCORE_SUMSQ)
    ]
    n, total, squares = moments
    return None if n is None or total is None else Counts(n=n, sum=total, sumsq=squares)


def _of_source(name: str, arm: Arm, increments: Increments) -> float | None:
    wanted = (arm.source or "").lower()
    found = [
        value
        for key, value in _of(name, arm.revision, increments).items()
        if key.get_label(Label.SOURCE) == wanted
    ]
    return found[0] if found else None


def _count_errors(arm: Arm, increments: Increments) -> Counts | None:
    answered = _requests(arm.revision, increments)
    if not answered:
        return None
    n = sum(
        value for key, value in answered.items() if not key.get_label(Label.CODE).startswith(CLIENT_ERROR)
    )
    bad = sum(value for key, value in answered.items() if key.get_label(Label.CODE).startswith(SERVER_ERROR))
    return Counts(n=n, bad=bad)


def _count_ratio(arm: Arm, increments: Increments) -> Counts | None:
    errors = _count_errors(arm, increments)
    series = _of(arm.source or "", arm.revision, increments)
    if errors is None or not series:
        return None
    return Counts(n=errors.n, bad=min(_sum(series), errors.n))


def _count_latency(arm: Arm, increments: Increments) -> Counts | None:
    within = _build_histogram(arm.revision, increments)
    n = within.pop(math.inf, None)
    if n is None:
        return None
    if arm.limits is None:
        return Counts(n=n, histogram=tuple(sorted(within.items())))
    if arm.bound is None or arm.bound not in within:
        return None
    absolute = arm.limits.absolute
    over = 0.0 if absolute is None or absolute not in within else n - within[absolute]
    return Counts(n=n, bad=n - within[arm.bound], over=over)


def _build_histogram(revision: str, increments: Increments) -> dict[float, float]:
    """Requests at or below each bound, over what the cache label says (hits were not asked for)."""
    within: dict[float, float] = {}
    for key, value in _of(DURATION_BUCKET, revision, increments).items():
        bound = parse_bound(key.get_label(Label.LE))
        if not math.isnan(bound):
            within[bound] = within.get(bound, 0.0) + value
    return within


def parse_bound(le: str) -> float:
    """A bucket's bound; NaN for a label that is no number."""
    try:
        return float(le)
    except ValueError:
        return math.nan


def _count_cost(arm: Arm, increments: Increments) -> Counts | None:
    asked = _fresh(arm.revision, increments)
    if not asked:
        return None
    cost = _sum(_of(Metric.LM_COST, arm.revision, increments))
    unpriced = _sum(_of(Metric.LM_UNPRICED, arm.revision, increments))
    return Counts(n=_sum(asked), sum=cost, bad=unpriced)


def _requests(revision: str, increments: Increments) -> Increments:
    answered = _of(Metric.HTTP_REQUESTS, revision, increments)
    return {key: value for key, value in answered.items() if key.get_label(Label.ROUTE) != FEEDBACK}


def _fresh(revision: str, increments: Increments) -> Increments:
    """Successful requests that no cache answered."""
    asked = _of(DURATION_COUNT, revision, increments)
    return {key: value for key, value in asked.items() if key.get_label(Label.CACHE) != CacheLabel.HIT}


def _of(name: str, revision: str, increments: Increments) -> Increments:
    """One family of one revision; of the revision without a name none (it is no arm)."""
    if not revision:
        return {}
    return {key: value for key, value in increments.items() if key.name == name and key.revision == revision}


def _sum(values: Increments) -> float:
    return sum(values.values())
