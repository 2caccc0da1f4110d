"""What stable's last 24 hours say of each metric: the prior that a rollout starts from.

Called by `reader.py`; pure. `increase()` is allowed here, as any value from the past keeps the test's guarantees.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dspy_operator.api.names import Label, Metric, ScoreSource
from dspy_operator.metrics.counting import parse_bound
from dspy_operator.metrics.queries import DURATION_BUCKET, history_query
from dspy_operator.metrics.readings import ProgramKey
from dspy_operator.metrics.series import Row
from dspy_operator.rollout.judging import MetricConfig, MetricType, Reference, find_p95

AUTO: Final = "Auto"
LEAST_SCORES: Final = 20.0
LEAST_REQUESTS: Final = 100.0
"""What a day must hold to count as history."""

BAD: Final = "5"
REFUSED: Final = "4"


@dataclass(frozen=True)
class History:
    """One sum over 24 h: of which metric, split by which label."""

    metric: str
    by: str

    def query(self, key: ProgramKey, revision: str) -> str:
        """Its text."""
        return history_query(self.metric, key, revision, self.by, hits=self.metric != DURATION_BUCKET)


SCORES: Final = tuple(
    History(metric, Label.SOURCE) for metric in (Metric.SCORE_SAMPLES, Metric.SCORE_SUM, Metric.SCORE_SUMSQ)
)
REQUESTS: Final = History(Metric.HTTP_REQUESTS, Label.CODE)
DURATIONS: Final = History(DURATION_BUCKET, Label.LE)

Histories = Mapping[History, Sequence[Row]]


def list_histories(metrics: Sequence[MetricConfig], sources: Mapping[str, str]) -> list[History]:
    """The sums that these metrics need, each once."""
    needed: dict[History, None] = {}
    for metric in metrics:
        needed |= dict.fromkeys(_list_for(metric, sources))
    return list(needed)


def _list_for(metric: MetricConfig, sources: Mapping[str, str]) -> tuple[History, ...]:
    match metric.type:
        case MetricType.SCORE:
            return SCORES
        case MetricType.ERROR_RATE:
            return (REQUESTS,)
        case MetricType.RATIO:
            return (REQUESTS, _series(metric, sources))
        case MetricType.LATENCY_P95:
            return (DURATIONS,)
        case MetricType.COST_PER_REQUEST:
            return ()


def build_references(
    metrics: Sequence[MetricConfig], sources: Mapping[str, str], histories: Histories
) -> dict[str, Reference]:
    """One reference a metric; a metric without history has none."""
    built = {metric.name: _build(metric, sources, histories) for metric in metrics}
    return {name: reference for name, reference in built.items() if reference is not None}


def _build(metric: MetricConfig, sources: Mapping[str, str], histories: Histories) -> Reference | None:
    match metric.type:
        case MetricType.SCORE:
            return _build_score(sources.get(metric.name, AUTO), histories)
        case MetricType.ERROR_RATE:
            n, bad = _count_requests(histories)
            return _build_share(n, bad)
        case MetricType.RATIO:
            n, _ = _count_requests(histories)
            series = _series(metric, sources)
            return _build_share(n, _total(histories, series), source=series.metric)
        case MetricType.LATENCY_P95:
            return _build_latency(histories)
        case MetricType.COST_PER_REQUEST:
            return None


def _build_score(source: str, histories: Histories) -> Reference | None:
    samples, sums, squares = (_by_label(histories, history) for history in SCORES)
    wanted = [str(one).lower() for one in (ScoreSource if source == AUTO else [source])]
    for name in wanted:
        n = samples.get(name, 0.0)
        if n >= LEAST_SCORES and name in sums:
            mean = min(max(sums[name] / n, 0.0), 1.0)
            variance = max(squares.get(name, sums[name]) / n - mean**2, 0.0)
            return Reference(mean=mean, variance=variance, source=name)
    return None


def _build_share(n: float, bad: float, source: str | None = None) -> Reference | None:
    if n < LEAST_REQUESTS:
        return None
    good = 1.0 - min(bad / n, 1.0)
    return Reference(mean=good, variance=good * (1.0 - good), source=source)


def _build_latency(histories: Histories) -> Reference | None:
    by_bound = ((parse_bound(le), n) for le, n in _by_label(histories, DURATIONS).items())
    within = sorted((bound, n) for bound, n in by_bound if not math.isnan(bound))
    if not within or within[-1][0] != math.inf or within[-1][1] < LEAST_REQUESTS:
        return None
    finite = tuple((bound, n) for bound, n in within if math.isfinite(bound))
    p95 = find_p95(finite, within[-1][1])
    if p95 is None:
        return None
    return Reference(p95=p95, bounds=tuple(bound for bound, _ in finite))


def _count_requests(histories: Histories) -> tuple[float, float]:
    """Requests that were no client's mistake, and the failed ones of them."""
    by_code = _by_label(histories, REQUESTS)
    n = sum(value for code, value in by_code.items() if not code.startswith(REFUSED))
    return n, sum(value for code, value in by_code.items() if code.startswith(BAD))


def _series(metric: MetricConfig, sources: Mapping[str, str]) -> History:
    return History(sources.get(metric.name, ""), Label.PROGRAM)


def _total(histories: Histories, history: History) -> float:
    return sum(_by_label(histories, history).values())


def _by_label(histories: Histories, history: History) -> dict[str, float]:
    """The finite values by the label that the history is split by."""
    rows = histories.get(history, ())
    return {row.labels.get(history.by, ""): row.value for row in rows if math.isfinite(row.value)}
