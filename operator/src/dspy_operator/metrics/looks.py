"""From counters to looks: both arms' increments since the last look, or why there are none.

Called by `reconcile/observe.py` with `reader.py`'s readings; pure. The rules are those of docs/concepts, "From counters
to looks": first sight contributes nothing, a restart contributes all, what cannot be true is dropped.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dspy_operator.api.names import Label, Metric, ScoreSource
from dspy_operator.api.reasons import Reason
from dspy_operator.metrics.counting import (
    Arm,
    Increments,
    add,
    count_fallbacks,
    count_metric,
    count_provider_errors,
    count_requests,
    count_successes,
)
from dspy_operator.metrics.queries import DURATION_COUNT, INFINITY
from dspy_operator.metrics.readings import CounterKey, PodReading, ProgramKey, Reading
from dspy_operator.rollout.judging import Counts, LatencyLimits, Look, MetricConfig
from dspy_operator.rollout.judging.looks import build_rounded, is_consistent
from dspy_operator.rollout.model import Unmeasured

STALE: Final = 30.0
"""Seconds after which a sample confirms nothing."""

LEAST_SCORES: Final = 20.0
"""Of stable, before a source is worth judging by."""

COUNTING: Final = frozenset({Metric.HTTP_REQUESTS, Metric.SCORE_SAMPLES, DURATION_COUNT})
"""The n of each metric: a smaller one than before means that the process started anew."""


@dataclass(frozen=True)
class LookPlan:
    """What to count, and what must hold for it to count.

    Attributes:
        stable: revision of that arm; empty while the canary has all traffic (bake).
        canary: revision of the other arm.
        metrics: to be judged.
        sources: per metric the source of a score, or the counter of a Ratio; a metric without one is left out.
        bounds: the frozen limits of a latency metric; without them the look brings the whole histogram.
        generation: of the routing table that gives the share.
        share: expected part of the requests that go to the canary, 0 to 1; 0 is not checked.
    """

    stable: str
    canary: str
    metrics: tuple[MetricConfig, ...]
    generation: int
    sources: Mapping[str, str] = field(default_factory=dict)
    bounds: Mapping[str, LatencyLimits] = field(default_factory=dict)
    share: float = 0.0

    def list_arms(self, metric: str) -> tuple[Arm, Arm]:
        """How a metric is counted for (canary, stable)."""
        source, limits = self.sources.get(metric), self.bounds.get(metric)
        return (
            Arm(self.canary, source, limits, limits.canary if limits else None),
            Arm(self.stable, source, limits, limits.stable if limits else None),
        )

    @property
    def revisions(self) -> frozenset[str]:
        """The arms that exist."""
        return frozenset({self.canary, self.stable}) - {""}


@dataclass(frozen=True)
class Bases:
    """What the counters were at the last look.

    Attributes:
        t: of that reading.
        values: per (pod, counter).
        generations: per pod, of the table that it had then.
        replicas: per pod, who scraped it.
        dropped: increments since the first bases that could not be true.
    """

    t: float
    values: Mapping[tuple[str, CounterKey], float] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    replicas: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0


def take_bases(reading: Reading, key: ProgramKey, plan: LookPlan) -> Bases:
    """Where the next look begins."""
    pods = reading.programs.get(key, {})
    return Bases(
        t=reading.t,
        values={
            (name, counter): value
            for name, pod in pods.items()
            for counter, value in pod.counters.items()
            if counter.revision in plan.revisions
        },
        generations={name: pod.generation for name, pod in pods.items() if pod.generation is not None},
        replicas={name: pod.replica for name, pod in pods.items()},
    )


def take_look(
    bases: Bases, reading: Reading, key: ProgramKey, plan: LookPlan, ready_pods: frozenset[str]
) -> tuple[Look | Unmeasured, Bases]:
    """One look and the bases of the next one.

    An `Unmeasured` keeps the old bases: the next look covers its time too. Increments from before the weight was in
    effect in every pod are dropped, and the look says `settled=False`.
    """
    trouble = _find_trouble(bases, reading, key)
    if trouble is not None:
        return trouble, bases
    pods = reading.programs[key]
    following = _follow(bases, take_bases(reading, key, plan), ready_pods)
    if not _is_settled(bases, pods, plan, ready_pods):
        return Look(t=reading.t, settled=False, share=plan.share), following
    look, dropped = _count(bases, pods, reading.t, plan)
    return build_rounded(look), replace(following, dropped=bases.dropped + dropped)


def find_confirmation(
    reading: Reading,
    key: ProgramKey,
    ready_pods: Mapping[str, Iterable[str]],
    generation: int,
    *,
    stale_after: float = STALE,
) -> float | None:
    """When the table came into effect in every pod: the last confirming sample's time, None if it has not.

    Args:
        reading: gauges suffice.
        key: whose pods.
        ready_pods: the pods that answer users, each with the revisions that must be loaded in it: those that live in it
            and have a weight; without a pod nothing is confirmed.
        generation: of the table.
        stale_after: seconds; a longer scrape interval than half of this needs a larger value.
    """
    pods = reading.programs.get(key, {})
    times = [
        _confirmed_at(pods[name], generation, revisions, reading.t - stale_after) if name in pods else None
        for name, revisions in ready_pods.items()
    ]
    confirmed = [t for t in times if t is not None]
    return max(confirmed) if confirmed and len(confirmed) == len(times) else None


def find_source(reading: Reading, key: ProgramKey, stable: str) -> ScoreSource | None:
    """The first source of scores (function, judge, feedback) of which stable's pods have counted enough."""
    counted = dict.fromkeys(ScoreSource, 0.0)
    for pod in reading.programs.get(key, {}).values():
        for counter, value in pod.counters.items():
            if counter.name == Metric.SCORE_SAMPLES and counter.revision == stable:
                source = counter.get_label(Label.SOURCE)
                counted |= {one: n + value for one, n in counted.items() if one == source}
    return next((source for source, n in counted.items() if n >= LEAST_SCORES), None)


def list_les(limits: Iterable[LatencyLimits]) -> tuple[str, ...]:
    """The histogram bounds that a plan with these limits reads, as Prometheus writes them."""
    bounds = {
        bound
        for limit in limits
        for bound in (limit.canary, limit.stable, limit.absolute)
        if bound is not None
    }
    return (*(str(bound) for bound in sorted(bounds)), INFINITY)


def _confirmed_at(pod: PodReading, generation: int, revisions: Iterable[str], oldest: float) -> float | None:
    current = pod.generation is not None and pod.generation >= generation
    fresh = pod.sampled_at is not None and pod.sampled_at >= oldest
    loaded = all(pod.loaded.get(revision) for revision in revisions)
    return pod.sampled_at if current and fresh and loaded else None


def _find_trouble(bases: Bases, reading: Reading, key: ProgramKey) -> Unmeasured | None:
    """Why this reading is no look of that program."""
    if key in reading.unmeasured:
        return reading.unmeasured[key]
    pods = reading.programs.get(key)
    if not pods:
        return Unmeasured(Reason.NOT_SCRAPED, f"Prometheus has no series of a pod of {key[1]}")
    if reading.t <= bases.t:
        return Unmeasured(Reason.EVIDENCE_MISSING, "Prometheus' clock has not gone on since the last look")
    known = {counter.name for pod in pods.values() for counter in pod.counters}
    if Metric.HTTP_REQUESTS not in known:
        return Unmeasured(Reason.EVIDENCE_MISSING, f"no pod of {key[1]} reports {Metric.HTTP_REQUESTS}")
    return None


def _is_settled(
    bases: Bases, pods: Mapping[str, PodReading], plan: LookPlan, ready_pods: frozenset[str]
) -> bool:
    """Whether the split was the same from the look's first sample to its last."""
    if not ready_pods or not ready_pods <= pods.keys():
        return False
    ready = [pods[name] for name in ready_pods]
    current = all(pod.generation is not None and pod.generation >= plan.generation for pod in ready)
    began_current = all(generation >= plan.generation for generation in bases.generations.values())
    loaded = all(pod.loaded.get(revision, True) for pod in ready for revision in plan.revisions)
    return current and began_current and loaded


def _follow(bases: Bases, new: Bases, ready_pods: frozenset[str]) -> Bases:
    """The bases of the next look: a Ready pod that this scrape missed keeps its old ones."""
    missed = (ready_pods & bases.generations.keys()) - new.generations.keys()
    kept = {place: value for place, value in bases.values.items() if place[0] in missed}
    return replace(
        new,
        values={**kept, **new.values},
        generations={**{name: bases.generations[name] for name in missed}, **new.generations},
        replicas={**{name: bases.replicas.get(name, "") for name in missed}, **new.replicas},
        dropped=bases.dropped,
    )


def _count(bases: Bases, pods: Mapping[str, PodReading], t: float, plan: LookPlan) -> tuple[Look, int]:
    """The increments of both arms, over all pods; and how many were dropped."""
    before = _group(bases)
    pods_gained = [_list_increments(bases, before, name, pod) for name, pod in sorted(pods.items())]
    metrics: dict[str, tuple[Counts, Counts]] = {}
    dropped = 0
    for metric in plan.metrics:
        canary, stable = (
            [one for gained in pods_gained if (one := count_metric(metric, arm, gained)) is not None]
            for arm in plan.list_arms(metric.name)
        )
        good = [[one for one in arm if is_consistent(metric.type, one)] for arm in (canary, stable)]
        dropped += len(canary) + len(stable) - len(good[0]) - len(good[1])
        if canary or stable:
            metrics[metric.name] = (add(good[0]), add(good[1]))
    look = Look(
        t=t,
        settled=True,
        metrics=metrics,
        requests=(count_requests(plan.canary, pods_gained), count_requests(plan.stable, pods_gained)),
        provider_errors=(
            count_provider_errors(plan.canary, pods_gained),
            count_provider_errors(plan.stable, pods_gained),
        ),
        share=plan.share,
        successes=(count_successes(plan.canary, pods_gained), count_successes(plan.stable, pods_gained)),
        fallbacks=count_fallbacks(plan.canary, pods_gained),
    )
    return look, dropped


def _group(bases: Bases) -> dict[str, dict[CounterKey, float]]:
    """The bases by pod."""
    grouped: dict[str, dict[CounterKey, float]] = {}
    for (name, counter), value in bases.values.items():
        grouped.setdefault(name, {})[counter] = value
    return grouped


def _list_increments(
    bases: Bases, before: Mapping[str, Mapping[CounterKey, float]], name: str, pod: PodReading
) -> Increments:
    """What each counter of one pod gained since the bases; a counter seen for the first time is not there."""
    if bases.replicas.get(name) != pod.replica:
        return {}
    base = before.get(name, {})
    if any(
        counter.name in COUNTING and value < base.get(counter, 0.0) for counter, value in pod.counters.items()
    ):
        return pod.counters
    return {counter: value - base[counter] for counter, value in pod.counters.items() if counter in base}
