"""The rows of a query's answer, sorted into pods: whose they are, which to take where a pod was scraped twice.

Called by `reader.py`; pure.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from dspy_operator.api.names import Label, Metric, ProgramState
from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.queries import DURATION_BUCKET, DURATION_COUNT, GAUGES, READING
from dspy_operator.metrics.readings import CounterKey, PodReading, ProgramKey
from dspy_operator.metrics.session import QueryFailed
from dspy_operator.rollout.model import Unmeasured

KEYS: Final = 8192
"""Counters that are told apart without being made anew: some 30 of each of two revisions, of 130 rollouts."""
WHOSE: Final = frozenset({"__name__", Label.NAMESPACE, Label.POD, Label.PROGRAM, Label.REVISION})
OWN_LABELS: Final[Mapping[str, frozenset[str]]] = {
    Metric.HTTP_REQUESTS: frozenset({Label.ROUTE, Label.CODE}),
    Metric.PROGRAM_ERRORS: frozenset({Label.CLASS}),
    Metric.FALLBACKS: frozenset({Label.FROM, Label.TO, Label.REASON}),
    Metric.SCORE_SAMPLES: frozenset({Label.SOURCE}),
    Metric.SCORE_SUM: frozenset({Label.SOURCE}),
    Metric.SCORE_SUMSQ: frozenset({Label.SOURCE}),
    Metric.LM_COST: frozenset({Label.MODEL}),
    Metric.LM_UNPRICED: frozenset({Label.MODEL}),
    DURATION_COUNT: frozenset({Label.CACHE}),
    DURATION_BUCKET: frozenset({Label.CACHE, Label.LE}),
    Metric.PROGRAM_STATE: frozenset({Label.STATE}),
}
"""Per metric the server's own labels, beside those that say whose it is."""


@dataclass(frozen=True)
class Row:
    """One series: its labels and its value."""

    labels: Mapping[str, str]
    value: float

    @property
    def name(self) -> str:
        """The metric, or `dspy_reading` for the time of a scrape."""
        return READING if READING in self.labels else self.labels.get("__name__", "")

    @property
    def key(self) -> ProgramKey:
        """Whose it is; empty strings where the labels are missing."""
        return self.labels.get(Label.NAMESPACE, ""), self.labels.get(Label.PROGRAM, "")

    @property
    def pod(self) -> str:
        """The pod, or an empty string."""
        return self.labels.get(Label.POD, "")

    @property
    def revision(self) -> str:
        """The revision, or an empty string."""
        return self.labels.get(Label.REVISION, "")

    @property
    def own(self) -> tuple[tuple[str, str], ...]:
        """The labels that the server itself gave this metric."""
        kept = OWN_LABELS.get(self.name, frozenset())
        return tuple(sorted((label, value) for label, value in self.labels.items() if label in kept))

    def get_replica(self, scrape_labels: Collection[str]) -> str:
        """Who scraped it: the values of the labels that scrapes add, in one string."""
        return ",".join(f"{label}={self.labels.get(label, '')}" for label in sorted(scrape_labels))


def list_rows(result: Iterable[Any]) -> list[Row]:
    """The rows of an instant vector.

    Raises:
        QueryFailed: a row has another shape.
    """
    try:
        return [_build_row(item["metric"], item["value"]) for item in result]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise QueryFailed(f"the answer has a row of another shape ({type(error).__name__})") from error


def _build_row(labels: Mapping[Any, Any], value: Sequence[Any]) -> Row:
    if not all(isinstance(text, str) for text in labels.values()):
        raise TypeError("a label's value is no text")
    return Row(labels, float(value[1]))


def split_clock(rows: Iterable[Row]) -> tuple[float, list[Row]]:
    """The server's time, from the one row without labels, and the other rows.

    Raises:
        QueryFailed: there is no such row.
    """
    others = list(rows)
    clock = next((row for row in others if not row.labels), None)
    if clock is None or not math.isfinite(clock.value):
        raise QueryFailed("the answer does not say its time")
    others.remove(clock)
    return clock.value, others


def build_pods(rows: Iterable[Row], chosen: Mapping[str, str]) -> Mapping[str, PodReading] | Unmeasured:
    """All pods of one program.

    Args:
        rows: the series of that program, whoever scraped them.
        chosen: per pod the replica that was read last time.
    """
    by_pod: dict[str, list[Row]] = {}
    for row in rows:
        if row.pod:
            by_pod.setdefault(row.pod, []).append(row)
    pods: dict[str, PodReading] = {}
    for pod, mine in sorted(by_pod.items()):
        built = _build_pod(mine, chosen.get(pod))
        if isinstance(built, Unmeasured):
            return built
        pods[pod] = built
    return pods


def _build_pod(rows: list[Row], previous: str | None) -> PodReading | Unmeasured:
    """One pod from one replica: the one of last time while it is there, else the first by name.

    Which labels a scrape adds is seen on the generation, which has none of the server's own: a label that a newer
    server gives another metric then shows as a series that comes twice, and not as one that is silently left out.
    """
    times = [row for row in rows if row.name == READING]
    added = {label for row in times for label in row.labels} - WHOSE - {READING}
    replicas = sorted({row.get_replica(added) for row in times}) or [""]
    replica = previous if previous in replicas else replicas[0]
    values: dict[CounterKey, float] = {}
    for row in rows:
        if row.get_replica(added) != replica:
            continue
        key = _get_key(row.name, row.revision, row.own)
        if key in values:
            return _unmeasured(f"{row.name} comes twice for the same pod")
        if not math.isfinite(row.value):
            return _unmeasured(f"{row.name} is {row.value}")
        values[key] = row.value
    return _assemble(values, replica)


@lru_cache(KEYS)
def _get_key(name: str, revision: str, own: tuple[tuple[str, str], ...]) -> CounterKey:
    """The same object for the same counter: every pod of a revision has it, in this reading and in the bases."""
    return CounterKey(name, revision, own)


def _assemble(values: Mapping[CounterKey, float], replica: str) -> PodReading:
    generation = _find(values, Metric.ROUTES_GENERATION)
    gauges = {READING, *GAUGES}
    return PodReading(
        generation=None if generation is None else int(generation),
        sampled_at=_find(values, READING),
        applied_at=_find(values, Metric.ROUTES_APPLIED),
        loaded={
            key.revision: value == 1 for key, value in values.items() if key.name == Metric.PROGRAM_LOADED
        },
        states=dict(_list_states(values)),
        counters={key: value for key, value in values.items() if key.name not in gauges},
        replica=replica,
    )


def _find(values: Mapping[CounterKey, float], name: str) -> float | None:
    return next((value for key, value in values.items() if key.name == name), None)


def _list_states(values: Mapping[CounterKey, float]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        state = key.get_label(Label.STATE)
        if key.name == Metric.PROGRAM_STATE and value == 1 and state in set(ProgramState):
            yield key.revision, state


def _unmeasured(message: str) -> Unmeasured:
    return Unmeasured(Reason.EVIDENCE_MISSING, message)
