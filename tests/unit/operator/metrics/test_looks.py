"""From counters to looks: what is added up, when a look is settled, and when a table is in effect."""

from dataclasses import replace

import pytest
from tests.unit.operator.metrics.counters import (
    CANARY,
    KEY,
    PLAN,
    READY,
    STABLE,
    counter,
    look_between,
    pod,
    reading,
    requests,
    scores,
)

from dspy_operator.metrics.looks import find_confirmation, take_bases, take_look
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.rollout.judging import Counts, Look
from dspy_operator.rollout.model import Unmeasured


def test_a_look_holds_both_arms_increments_over_all_pods() -> None:
    first = reading(
        100,
        pod_0=pod(scores(STABLE, 10, 8, 7), scores(CANARY, 1, 1, 1)),
        pod_1=pod(scores(STABLE, 20, 16, 14), scores(CANARY, 0, 0, 0)),
    )
    second = reading(
        130,
        pod_0=pod(scores(STABLE, 15, 12, 10.5), scores(CANARY, 2, 1.5, 1.25)),
        pod_1=pod(scores(STABLE, 23, 18, 15.5), scores(CANARY, 1, 0.25, 0.0625)),
    )
    look, bases = look_between(first, second)
    assert (look.t, look.settled, look.share) == (130, True, 0.1)
    assert look.metrics["score"] == (Counts(2, 0.75, 0.3125), Counts(8, 6, 5))
    assert bases.t == 130
    following, _ = take_look(bases, replace(second, t=160.0), KEY, PLAN, READY)
    assert isinstance(following, Look)
    assert following.metrics["score"] == (Counts(0, 0, 0), Counts(0, 0, 0))


def test_the_first_sight_of_a_series_sets_its_base_and_contributes_nothing() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 0, 0, 0)))
    second = reading(
        130,
        pod_0=pod(scores(STABLE, 12, 10, 9), scores(CANARY, 50, 10, 5)),
        pod_1=pod(scores(STABLE, 0, 0, 0)),
    )
    third = reading(
        160,
        pod_0=pod(scores(STABLE, 12, 10, 9), scores(CANARY, 51, 11, 6)),
        pod_1=pod(scores(STABLE, 0, 0, 0)),
    )
    look, bases = look_between(first, second)
    assert look.metrics["score"] == (Counts(), Counts(2, 2, 2))
    following, _ = take_look(bases, third, KEY, PLAN, READY)
    assert isinstance(following, Look)
    assert following.metrics["score"] == (Counts(1, 1, 1), Counts(0, 0, 0))


def test_a_pod_that_comes_contributes_from_its_second_look_on() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7)))
    second = reading(130, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 40, 40, 40)))
    third = reading(160, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 43, 43, 43)))
    look, bases = look_between(first, second)
    assert look.metrics["score"][1].n == 0
    following, _ = take_look(bases, third, KEY, PLAN, READY)
    assert isinstance(following, Look)
    assert following.metrics["score"][1] == Counts(3, 3, 3)


def test_a_smaller_n_is_a_restart_and_everything_since_then_counts() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7), requests(STABLE, c200=50, c500=3)))
    second = reading(130, pod_0=pod(scores(STABLE, 4, 3, 2.5), requests(STABLE, c200=5, c500=1)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.metrics["score"][1] == Counts(4, 3, 2.5)
    assert look.metrics["errors"][1] == Counts(n=6, bad=1)


def test_after_a_restart_a_series_not_seen_before_counts_too() -> None:
    first = reading(100, pod_0=pod(requests(STABLE, c200=50)))
    second = reading(130, pod_0=pod(requests(STABLE, c200=5, c502=2)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.metrics["errors"][1] == Counts(n=7, bad=2)


@pytest.mark.parametrize(
    "after",
    [
        (12, 7, 6.5),  # the sum fell
        (12, 11, 7.5),  # more sum than samples
        (12, 8.5, 8),  # more squares than sum
        (12, 10, 8),  # sum² > n · squares
        (12, 8.5, 6),  # the squares fell
    ],
)
def test_an_increment_that_cannot_be_true_is_dropped_and_counted(after: tuple[float, float, float]) -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 5, 5, 5)))
    second = reading(130, pod_0=pod(scores(STABLE, *after)), pod_1=pod(scores(STABLE, 6, 6, 6)))
    look, bases = look_between(first, second)
    assert look.metrics["score"][1] == Counts(1, 1, 1)
    assert bases.dropped == 1


def test_increments_are_never_negative_whatever_the_counters_do() -> None:
    first = reading(100, pod_0=pod(requests(STABLE, c200=10, c500=5), scores(STABLE, 9, 9, 9)))
    second = reading(130, pod_0=pod(requests(STABLE, c200=20, c500=2), scores(STABLE, 0, 0, 0)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    for canary, stable in look.metrics.values():
        for counts in (canary, stable):
            assert min(counts.n, counts.sum, counts.sumsq or 0, counts.bad) >= 0


def test_a_ready_pod_missing_from_one_scrape_catches_up_at_the_next() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 20, 20, 20)))
    second = reading(130, pod_0=pod(scores(STABLE, 11, 9, 8)))
    third = reading(160, pod_0=pod(scores(STABLE, 12, 10, 9)), pod_1=pod(scores(STABLE, 26, 26, 26)))
    missed, bases = take_look(take_bases(first, KEY, PLAN), second, KEY, PLAN, READY)
    assert isinstance(missed, Look)
    assert not missed.settled
    look, _ = take_look(bases, third, KEY, PLAN, READY)
    assert isinstance(look, Look)
    assert look.metrics["score"][1] == Counts(7, 7, 7)


def test_a_pod_that_is_gone_takes_its_tail_and_its_bases_along() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7)), pod_1=pod(scores(STABLE, 20, 20, 20)))
    second = reading(130, pod_0=pod(scores(STABLE, 11, 9, 8)))
    look, bases = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.metrics["score"][1] == Counts(1, 1, 1)
    assert {name for name, _ in bases.values} == {"pod-0"}
    assert set(bases.generations) == {"pod-0"}


def test_a_pod_read_through_another_scraper_starts_anew() -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 10, 8, 7), replica="a"))
    second = reading(130, pod_0=pod(scores(STABLE, 9, 7, 6), replica="b"))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert "score" not in look.metrics
    assert look.requests == (0, 0)


def test_a_late_score_counts_in_the_look_in_which_it_arrives() -> None:
    first = reading(100, pod_0=pod(scores(CANARY, 3, 3, 3), requests(CANARY, c200=10)))
    second = reading(130, pod_0=pod(scores(CANARY, 4, 3.5, 3.25), requests(CANARY, c200=10)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.requests[0] == 0
    assert look.metrics["score"][0] == Counts(1, 0.5, 0.25)


@pytest.mark.parametrize(
    ("now", "ready"),
    [
        ({"pod_0": 7, "pod_1": 6}, READY),
        ({"pod_0": 7, "pod_1": None}, READY),
        ({"pod_0": 7}, READY),
        ({"pod_0": 7, "pod_1": 7}, frozenset()),
    ],
)
def test_a_look_is_unsettled_until_every_ready_pod_reports_the_table(
    now: dict[str, int | None], ready: frozenset[str]
) -> None:
    first = reading(100, pod_0=pod(scores(STABLE, 1, 1, 1)), pod_1=pod())
    second = reading(
        130, **{name: pod(scores(STABLE, 9, 9, 9), generation=generation) for name, generation in now.items()}
    )
    look, bases = take_look(take_bases(first, KEY, PLAN), second, KEY, PLAN, ready)
    assert isinstance(look, Look)
    assert not look.settled
    assert look.metrics == {}
    assert bases.t == 130


def test_a_look_that_began_before_the_weight_was_in_effect_is_dropped_and_the_next_one_counts() -> None:
    first = reading(100, pod_0=pod(scores(CANARY, 0, 0, 0), generation=6))
    second = reading(130, pod_0=pod(scores(CANARY, 5, 5, 5)))
    third = reading(160, pod_0=pod(scores(CANARY, 7, 6, 6)))
    ready = frozenset({"pod-0"})
    look, bases = look_between(first, second, ready=ready)
    assert not look.settled
    following, _ = take_look(bases, third, KEY, PLAN, ready)
    assert isinstance(following, Look)
    assert following.settled
    assert following.metrics["score"][0] == Counts(2, 1, 1)


def test_a_look_is_unsettled_while_a_ready_pod_cannot_load_the_canary() -> None:
    first = reading(100, pod_0=pod())
    second = reading(130, pod_0=replace(pod(), loaded={STABLE: True, CANARY: False}))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert not look.settled


def test_own_pods_need_only_what_they_were_given() -> None:
    plan = replace(PLAN, generation=0)
    first = reading(100, pod_0=pod(scores(STABLE, 1, 1, 1)), pod_1=pod(scores(CANARY, 1, 1, 1)))
    stable_only = replace(pod(scores(STABLE, 3, 3, 3)), loaded={STABLE: True})
    canary_only = replace(pod(scores(CANARY, 2, 1, 1)), loaded={CANARY: True})
    look, _ = look_between(first, reading(130, pod_0=stable_only, pod_1=canary_only), plan)
    assert look.metrics["score"] == (Counts(1, 0, 0), Counts(2, 2, 2))


def test_no_pod_in_prometheus_is_unmeasured_and_keeps_the_bases() -> None:
    bases = take_bases(reading(100, pod_0=pod()), KEY, PLAN)
    look, kept = take_look(bases, Reading(130, {KEY: {}}), KEY, PLAN, READY)
    assert look == Unmeasured("NotScraped", "Prometheus has no series of a pod of triage")
    assert kept is bases


def test_a_renamed_metric_is_unmeasured_with_its_name() -> None:
    bases = take_bases(reading(100, pod_0=pod()), KEY, PLAN)
    renamed = replace(pod(), counters={counter("dspy_http_requests_v2_total", STABLE): 3.0})
    look, kept = take_look(bases, reading(130, pod_0=renamed), KEY, PLAN, READY)
    assert isinstance(look, Unmeasured)
    assert "dspy_http_requests_total" in look.message
    assert kept is bases


def test_a_clock_that_stands_or_jumps_back_is_unmeasured() -> None:
    bases = take_bases(reading(100, pod_0=pod()), KEY, PLAN)
    for t in (100, 40):
        look, kept = take_look(bases, reading(t, pod_0=pod()), KEY, PLAN, READY)
        assert isinstance(look, Unmeasured)
        assert kept is bases


def test_a_programs_own_nonsense_is_unmeasured() -> None:
    bases = take_bases(reading(100, pod_0=pod()), KEY, PLAN)
    trouble = Unmeasured("EvidenceMissing", "dspy_score_sum_total is nan")
    look, _ = take_look(bases, Reading(130, {}, {KEY: trouble}), KEY, PLAN, READY)
    assert look is trouble


def test_what_is_judged_has_six_decimals() -> None:
    first = reading(100.1234567, pod_0=pod(scores(STABLE, 1, 0.1, 0.01)))
    second = reading(130.1234567, pod_0=pod(scores(STABLE, 3, 0.1 + 1 / 3, 0.01 + 1 / 9)))
    look, _ = look_between(first, second, ready=frozenset({"pod-0"}))
    assert look.t == 130.123457
    assert look.metrics["score"][1] == Counts(2, 0.333333, 0.111111)


def needing(ready: frozenset[str]) -> dict[str, list[str]]:
    """Shared pods: both programs live in each."""
    return {name: [STABLE, CANARY] for name in ready}


def confirm(pods: dict[str, PodReading], ready: frozenset[str] = READY, **kwargs: float) -> float | None:
    return find_confirmation(Reading(100, {KEY: pods}), KEY, needing(ready), 7, **kwargs)


def test_a_table_is_in_effect_at_the_last_pods_confirming_sample() -> None:
    assert confirm({"pod-0": pod(t=90), "pod-1": pod(t=95, generation=8)}) == 95


@pytest.mark.parametrize(
    "second",
    [
        None,
        pod(t=95, generation=6),
        pod(t=95, generation=None),
        pod(t=69),
        replace(pod(t=95), sampled_at=None),
        replace(pod(t=95), loaded={STABLE: True, CANARY: False}),
        replace(pod(t=95), loaded={STABLE: True}),
    ],
)
def test_a_table_is_not_in_effect_while_one_ready_pod_does_not_confirm_it(second: PodReading | None) -> None:
    pods = {"pod-0": pod(t=90)} | ({"pod-1": second} if second else {})
    assert confirm(pods) is None


def test_a_table_is_not_in_effect_without_a_ready_pod() -> None:
    assert confirm({"pod-0": pod(t=90)}, frozenset()) is None


def test_how_old_a_confirming_sample_may_be_can_be_set() -> None:
    pods = {"pod-0": pod(t=40), "pod-1": pod(t=90)}
    assert confirm(pods) is None
    assert confirm(pods, stale_after=60.0) == 90
