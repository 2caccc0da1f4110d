"""Whatever counters do between two readings, a look holds only increments that real samples can have."""

import math
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.operator.metrics.counters import (
    CANARY,
    COST,
    ERRORS,
    KEY,
    LATENCY,
    PLAN,
    RATIO,
    SCORE,
    STABLE,
    Counters,
    counter,
    pod,
    requests,
    scores,
)

from dspy_operator.api.names import Metric
from dspy_operator.metrics.looks import take_bases, take_look
from dspy_operator.metrics.queries import DURATION_BUCKET, DURATION_COUNT
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.rollout.judging import (
    LatencyLimits,
    Look,
    Reference,
    RolloutConfig,
    StepConfig,
    judge,
    start,
)
from dspy_operator.rollout.judging.looks import is_consistent

METRICS = (SCORE, ERRORS, LATENCY, RATIO, COST)
LIMITS = LatencyLimits(p95=1.0, canary=2.0, stable=1.0, absolute=2.0)
CONFIG = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=METRICS)

numbers = st.one_of(st.integers(0, 60), st.integers(-5, 10**6), st.floats(-1e9, 1e15))


@st.composite
def pages(draw: st.DrawFn) -> PodReading:
    parts: list[Counters] = []
    for revision in (STABLE, CANARY):
        parts += [
            requests(revision, c200=draw(numbers), c500=draw(numbers), c422=draw(numbers)),
            scores(revision, draw(numbers), draw(numbers), draw(numbers)),
            {counter(DURATION_COUNT, revision, cache="miss"): draw(numbers)},
            {counter("triage_refusals_total", revision): draw(numbers)},
            {counter(Metric.LM_COST, revision, model="m"): draw(numbers)},
            {counter(Metric.PROGRAM_ERRORS, revision, class_="timeout"): draw(numbers)},
        ]
        parts += [
            {counter(DURATION_BUCKET, revision, cache="miss", le=le): draw(numbers)}
            for le in draw(st.sets(st.sampled_from(["1.0", "2.0", "+Inf"])))
        ]
    return pod(*parts, replica=draw(st.sampled_from(["a", "a", "b"])))


worlds = st.dictionaries(st.sampled_from(["pod-0", "pod-1", "pod-2"]), pages(), min_size=1)


@given(st.lists(worlds, min_size=2, max_size=4), st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_a_look_holds_no_increment_that_cannot_be_true(
    seen: list[dict[str, PodReading]],
    frozen: bool,  # noqa: FBT001  drawn
) -> None:
    plan = replace(PLAN, metrics=METRICS, bounds={"latency": LIMITS} if frozen else {})
    bases = take_bases(Reading(0, {KEY: seen[0]}), KEY, plan)
    references = {"latency": Reference(p95=1.0, bounds=(1.0, 2.0))} if frozen else {}
    state = start(CONFIG, references, 0)
    for k, pods in enumerate(seen[1:], 1):
        look, bases = take_look(bases, Reading(30 * k, {KEY: pods}), KEY, plan, frozenset(pods))
        assert isinstance(look, Look)
        for metric in METRICS:
            for counts in look.metrics.get(metric.name, ()):
                assert is_consistent(metric.type, counts), counts
        assert all(0 <= value < math.inf for value in (*look.requests, *look.provider_errors))
        state, verdict = judge(state, look)
        assert math.isfinite(verdict.ln_e_rollback)
