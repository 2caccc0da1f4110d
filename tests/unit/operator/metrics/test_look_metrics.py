"""From counters to looks: what each type of metric counts, from which source and under which bounds."""

from dataclasses import replace

from tests.unit.operator.metrics.counters import (
    CANARY,
    COST,
    KEY,
    LATENCY,
    PLAN,
    RATIO,
    STABLE,
    Counters,
    counter,
    look_between,
    pod,
    reading,
    requests,
    scores,
)

from dspy_operator.api.names import Metric
from dspy_operator.metrics.looks import find_source, list_les
from dspy_operator.metrics.queries import DURATION_BUCKET, DURATION_COUNT
from dspy_operator.metrics.readings import Reading
from dspy_operator.rollout.judging import Counts, LatencyLimits


def test_errors_are_5xx_of_all_requests_without_4xx_and_feedback() -> None:
    first = reading(
        100,
        pod_0=pod(requests(CANARY, c200=0, c422=0, c499=0, c503=0), requests(CANARY, "/feedback", c200=0)),
    )
    second = reading(
        130,
        pod_0=pod(requests(CANARY, c200=9, c422=4, c499=2, c503=1), requests(CANARY, "/feedback", c200=50)),
    )
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.metrics["errors"][0] == Counts(n=10, bad=1)
    assert look.requests == (16, 0)


def test_overridden_requests_count_nowhere() -> None:
    first = reading(100, pod_0=pod(requests("", c200=0)))
    second = reading(130, pod_0=pod(requests("", c200=99)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.requests == (0, 0)


def test_overridden_requests_count_nowhere_in_bake_either_also_after_a_restart() -> None:
    first = reading(100, pod_0=pod(requests(CANARY, c200=50)))
    second = reading(130, pod_0=pod(requests(CANARY, c200=5), requests("", c200=99)))
    look, _ = look_between(first, second, replace(PLAN, stable=""), ready=frozenset({"pod-0"}))
    assert look.requests == (5, 0)


def test_only_the_one_source_counts() -> None:
    first = reading(100, pod_0=pod(scores(CANARY, 0, 0, 0), scores(CANARY, 0, 0, 0, "feedback")))
    second = reading(130, pod_0=pod(scores(CANARY, 2, 1, 1), scores(CANARY, 9, 9, 9, "feedback")))
    ready = frozenset({"pod-0"})
    look, _ = look_between(first, second, ready=ready)
    assert look.metrics["score"][0] == Counts(2, 1, 1)
    look, _ = look_between(first, second, replace(PLAN, sources={"score": "feedback"}), ready=ready)
    assert look.metrics["score"][0] == Counts(9, 9, 9)
    look, _ = look_between(first, second, replace(PLAN, sources={}), ready=ready)
    assert "score" not in look.metrics


def test_a_ratio_counts_the_users_counter_at_most_once_a_request() -> None:
    plan = replace(PLAN, metrics=(RATIO,))
    series = counter("triage_refusals_total", CANARY)
    first = reading(100, pod_0=pod(requests(CANARY, c200=0), {series: 0.0}))
    second = reading(130, pod_0=pod(requests(CANARY, c200=10), {series: 3.0}))
    third = reading(130, pod_0=pod(requests(CANARY, c200=10), {series: 30.0}))
    ready = frozenset({"pod-0"})
    assert look_between(first, second, plan, ready)[0].metrics["refusals"][0] == Counts(n=10, bad=3)
    assert look_between(first, third, plan, ready)[0].metrics["refusals"][0] == Counts(n=10, bad=10)


def buckets(revision: str, cache: str = "miss", **within: float) -> Counters:
    bounds = {"b1": "1.0", "b2": "2.0", "inf": "+Inf"}
    return {
        counter(DURATION_BUCKET, revision, cache=cache, le=bounds[name]): value
        for name, value in within.items()
    }


def test_latency_without_limits_brings_the_histogram() -> None:
    plan = replace(PLAN, metrics=(LATENCY,))
    first = reading(
        100,
        pod_0=pod(buckets(CANARY, b1=0, b2=0, inf=0), buckets(CANARY, "bypass", b1=0, b2=0, inf=0)),
        pod_1=pod(buckets(CANARY, b1=0, b2=0, inf=0)),
    )
    second = reading(
        130,
        pod_0=pod(buckets(CANARY, b1=3, b2=5, inf=6), buckets(CANARY, "bypass", b1=1, b2=1, inf=1)),
        pod_1=pod(buckets(CANARY, b1=1, b2=1, inf=1)),
    )
    look, _ = look_between(first, second, plan)
    assert look.metrics["latency"][0] == Counts(n=8, histogram=((1.0, 5), (2.0, 7)))


def test_latency_with_limits_counts_each_arm_above_its_own_bound() -> None:
    limits = LatencyLimits(p95=1.5, canary=2.0, stable=1.0, absolute=2.0)
    plan = replace(PLAN, metrics=(LATENCY,), bounds={"latency": limits})
    zero = (buckets(CANARY, b1=0, b2=0, inf=0), buckets(STABLE, b1=0, b2=0, inf=0))
    after = (buckets(CANARY, b1=3, b2=5, inf=6), buckets(STABLE, b1=30, b2=50, inf=60))
    ready = frozenset({"pod-0"})
    look, _ = look_between(reading(100, pod_0=pod(*zero)), reading(130, pod_0=pod(*after)), plan, ready)
    assert look.metrics["latency"] == (Counts(n=6, bad=1, over=1), Counts(n=60, bad=30, over=10))


def test_latency_without_a_bound_above_its_limit_is_left_out() -> None:
    limits = LatencyLimits(p95=100.0, canary=None, stable=None, absolute=None)
    plan = replace(PLAN, metrics=(LATENCY,), bounds={"latency": limits})
    first = reading(100, pod_0=pod(buckets(CANARY, inf=0)))
    second = reading(130, pod_0=pod(buckets(CANARY, inf=9)))
    look, _ = look_between(first, second, plan, frozenset({"pod-0"}))
    assert "latency" not in look.metrics


def test_a_bucket_bound_that_is_no_number_is_ignored() -> None:
    plan = replace(PLAN, metrics=(LATENCY,))
    nonsense = {counter(DURATION_BUCKET, CANARY, cache="miss", le="fast"): 0.0}
    first = reading(100, pod_0=pod(buckets(CANARY, b1=0, inf=0), nonsense))
    second = reading(130, pod_0=pod(buckets(CANARY, b1=4, inf=9), nonsense))
    look, _ = look_between(first, second, plan, frozenset({"pod-0"}))
    assert look.metrics["latency"][0] == Counts(n=9, histogram=((1.0, 4),))


def test_cost_is_counted_over_answers_that_were_no_cache_hits() -> None:
    plan = replace(PLAN, metrics=(COST,))

    def spent(n: float, hits: float, cost: float, unpriced: float) -> Counters:
        return {
            counter(DURATION_COUNT, CANARY, cache="miss"): n,
            counter(DURATION_COUNT, CANARY, cache="hit"): hits,
            counter(Metric.LM_COST, CANARY, model="m"): cost,
            counter(Metric.LM_UNPRICED, CANARY, model="m"): unpriced,
        }

    first = reading(100, pod_0=pod(spent(0, 0, 0, 0)))
    second = reading(130, pod_0=pod(spent(5, 9, 0.25, 1)))
    look, _ = look_between(first, second, plan, frozenset({"pod-0"}))
    assert look.metrics["cost"][0] == Counts(n=5, sum=0.25, bad=1)


def test_provider_errors_are_the_providers_classes_and_fallbacks() -> None:
    def failed(timeouts: float, parses: float, fallbacks: float) -> Counters:
        return {
            counter(Metric.PROGRAM_ERRORS, STABLE, class_="timeout"): timeouts,
            counter(Metric.PROGRAM_ERRORS, STABLE, class_="parse"): parses,
            counter(Metric.FALLBACKS, STABLE, from_="a", to="b", reason="timeout"): fallbacks,
        }

    first, second = reading(100, pod_0=pod(failed(0, 0, 0))), reading(130, pod_0=pod(failed(4, 8, 3)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.provider_errors == (0, 7)


def test_during_bake_only_the_canary_arm_exists() -> None:
    plan = replace(PLAN, stable="", share=0.0)
    first = reading(100, pod_0=pod(scores(CANARY, 0, 0, 0), scores(STABLE, 0, 0, 0)))
    second = reading(130, pod_0=pod(scores(CANARY, 4, 4, 4), scores(STABLE, 4, 4, 4)))
    look, _ = look_between(first, second, plan, frozenset({"pod-0"}))
    assert look.metrics["score"] == (Counts(4, 4, 4), Counts())


def test_the_source_is_the_first_with_enough_of_stables_scores() -> None:
    pods = {
        "pod-0": pod(scores(STABLE, 12, 9, 8), scores(STABLE, 100, 90, 80, "feedback")),
        "pod-1": pod(scores(STABLE, 8, 7, 6), scores(CANARY, 500, 1, 1, "judge")),
    }
    assert find_source(Reading(1, {KEY: pods}), KEY, STABLE) == "metric"
    assert find_source(Reading(1, {KEY: {"pod-0": pods["pod-0"]}}), KEY, STABLE) == "feedback"
    assert find_source(Reading(1, {KEY: {"pod-1": pods["pod-1"]}}), KEY, STABLE) is None


def test_the_bounds_of_a_plan_are_those_of_its_limits() -> None:
    assert list_les([LatencyLimits(1.5, 2.0, 1.0, None), LatencyLimits(1.5, 2.0, None, 10.0)]) == (
        "1.0",
        "2.0",
        "10.0",
        "+Inf",
    )


def test_answers_that_could_be_scored_are_those_of_no_cache_and_fallbacks_those_of_the_canary() -> None:
    def page(n: float) -> Counters:
        counted = {
            counter(DURATION_COUNT, revision, cache=cache): n * factor
            for revision, factor in ((CANARY, 1), (STABLE, 9))
            for cache in ("miss", "hit", "bypass")
        }
        fallen = {counter(Metric.ROUTE_FALLBACK, CANARY): 3 * n, counter(Metric.ROUTE_FALLBACK, STABLE): n}
        return counted | fallen

    first = reading(100, pod_0=pod(page(0)), pod_1=pod(page(0)))
    second = reading(130, pod_0=pod(page(10)), pod_1=pod(page(1)))
    look, _ = look_between(first, second)
    assert look.successes == (22, 198)
    assert look.fallbacks == 33
