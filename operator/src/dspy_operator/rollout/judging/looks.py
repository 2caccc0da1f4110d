"""One look: both arms' counters as increments since the look before.

The metrics adapter makes looks; `sequence.judge` reads them; `record` keeps them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from dspy_operator.api.choices import MetricType

DIGITS = 6
"""Decimals that are judged and recorded: what is written is what was judged."""

SLACK = 1e-6

Histogram = tuple[tuple[float, float], ...]
"""(upper bound in seconds, requests at or below it), ascending and cumulative; +Inf may be left out."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Increments of one arm and metric.

    `n` samples. Score: `sum` and `sumsq` of the scores (`sumsq` None: not known, `sum` is used). ErrorRate,
    Ratio: `bad` of n. LatencyP95: `histogram`, or `bad` above the arm's bound and `over` above the bound of
    `max` once these are frozen (`State.find_latency_limits`). CostPerRequest: `sum` in US dollars, unpriced
    calls in `bad`.
    """

    n: float = 0.0
    sum: float = 0.0
    sumsq: float | None = None
    bad: float = 0.0
    over: float = 0.0
    histogram: Histogram = ()

    def __add__(self, other: "Counts") -> "Counts":
        sumsq = _get_squares(self) + _get_squares(other)
        known = self.sumsq is not None or other.sumsq is not None
        return Counts(
            n=self.n + other.n,
            sum=self.sum + other.sum,
            sumsq=sumsq if known else None,
            bad=self.bad + other.bad,
            over=self.over + other.over,
        )


NO_COUNTS = Counts()

NO_NUMBERS = Counts(n=math.nan)
"""An increment that could not be read: never judged."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at `t` (Unix seconds): per metric name (canary, stable).

    `requests` and `provider_errors` are (canary, stable); provider errors count fallbacks to another model
    too. `share` is the expected part of requests to the canary, 0 to 1 (0: not checked). `settled`: the
    weight was in effect before the look's first sample. `successes`: requests of (canary, stable) that could be
    scored; `fallbacks`: the canary's requests that stable answered.
    """

    t: float
    settled: bool = True
    metrics: Mapping[str, tuple[Counts, Counts]] = field(default_factory=dict)
    requests: tuple[float, float] = (0.0, 0.0)
    provider_errors: tuple[float, float] = (0.0, 0.0)
    share: float = 0.0
    successes: tuple[float, float] = (0.0, 0.0)
    fallbacks: float = 0.0


def build_rounded(look: Look) -> Look:
    """The look with 6 decimals, before it is judged."""
    return Look(
        t=round(look.t, DIGITS),
        settled=look.settled,
        metrics={name: (_round(canary), _round(stable)) for name, (canary, stable) in look.metrics.items()},
        requests=_round_pair(look.requests),
        provider_errors=_round_pair(look.provider_errors),
        share=round(look.share, DIGITS) if math.isfinite(look.share) else 0.0,
        successes=_round_pair(look.successes),
        fallbacks=_round_pair((look.fallbacks, 0.0))[0],
    )


def is_consistent(kind: MetricType, counts: Counts) -> bool:
    """Whether an increment can be one of real samples; what cannot is dropped, never judged."""
    n, total, squares, bad, over = counts.n, counts.sum, _get_squares(counts), counts.bad, counts.over
    # Written out, as this is asked four times a look; a NaN fails every comparison.
    if not (n >= 0 and total >= 0 and squares >= 0 and bad >= 0 and over >= 0):
        return False
    if not math.isfinite(n + total + squares + bad + over):
        return False
    if kind is MetricType.COST_PER_REQUEST:
        return True
    if counts.bad > counts.n + SLACK or counts.over > counts.n + SLACK:
        return False
    if counts.histogram and not _has_cumulative_histogram(counts):
        return False
    return kind is not MetricType.SCORE or _has_consistent_moments(counts)


def _has_cumulative_histogram(counts: Counts) -> bool:
    within = (0.0, *(count for _, count in counts.histogram), counts.n)
    return all(fewer <= more + SLACK for fewer, more in pairwise(within))


def _has_consistent_moments(counts: Counts) -> bool:
    squares = _get_squares(counts)
    slack = SLACK * max(1.0, counts.n)
    if not squares <= counts.sum + slack or not counts.sum <= counts.n + slack:
        return False
    return counts.sum**2 <= counts.n * squares + SLACK * max(1.0, counts.n**2)


def _get_squares(counts: Counts) -> float:
    return counts.sum if counts.sumsq is None else counts.sumsq


def _round(counts: Counts) -> Counts:
    squares = 0.0 if counts.sumsq is None else counts.sumsq
    if not math.isfinite(counts.n + counts.sum + squares + counts.bad + counts.over):
        return NO_NUMBERS
    return Counts(
        n=round(counts.n, DIGITS),
        sum=round(counts.sum, DIGITS),
        sumsq=None if counts.sumsq is None else round(counts.sumsq, DIGITS),
        bad=round(counts.bad, DIGITS),
        over=round(counts.over, DIGITS),
        histogram=tuple(
            (bound, round(count, DIGITS)) for bound, count in counts.histogram if math.isfinite(bound + count)
        ),
    )


def _round_pair(pair: tuple[float, float]) -> tuple[float, float]:
    if not all(math.isfinite(value) and value >= 0 for value in pair):
        return (0.0, 0.0)
    return (round(pair[0], DIGITS), round(pair[1], DIGITS))
