"""Resets and missed scrapes at random: what the looks add up to, and what the judge makes of them."""

import math
from dataclasses import dataclass, field
from random import Random
from statistics import fmean, stdev

import pytest
from tests.unit.operator.metrics.counters import CANARY, KEY, SCORE, STABLE, pod, requests, scores

from dspy_operator.metrics.looks import LookPlan, take_bases, take_look
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.rollout.judging import Counts, Look, Reference, RolloutConfig, StepConfig, judge, start

PODS = ("pod-0", "pod-1", "pod-2")
READY = frozenset(PODS)
PLAN = LookPlan(STABLE, CANARY, (SCORE,), generation=7, sources={"score": "metric"})
CONFIG = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=(SCORE,))
LOOKS = 6

Triple = tuple[int, int]
"""Thumbs: how many, and how many of them up."""


@dataclass
class Counting:
    """One pod's process: per revision what it has counted since it started, and what of it was scraped."""

    seen: dict[str, Triple] = field(default_factory=lambda: {STABLE: (0, 0), CANARY: (0, 0)})

    def serve(self, random: Random, revision: str, count: int, mean: float) -> None:
        n, up = self.seen[revision]
        self.seen[revision] = n + count, up + sum(random.random() < mean for _ in range(count))

    def show(self, t: float) -> PodReading:
        pages = [scores(revision, n, up, up) for revision, (n, up) in self.seen.items()]
        answered = [requests(revision, c200=float(n)) for revision, (n, _) in self.seen.items()]
        return pod(*pages, *answered, t=t)


def list_looks(seed: int, factor: float, unlucky: float) -> tuple[list[Look], dict[str, int]]:
    """Looks at three pods of which each restarts, or is not scraped, at random; and what was served in all."""
    random = Random(seed)
    world = {name: Counting() for name in PODS}
    for one in world.values():
        one.serve(random, STABLE, 5, 0.8)
    bases = take_bases(Reading(0, {KEY: {name: one.show(0) for name, one in world.items()}}), KEY, PLAN)
    looks, served = [], {STABLE: 0, CANARY: 0}
    for k in range(1, LOOKS + 1):
        for name in PODS:
            if random.random() < unlucky:
                world[name] = Counting()
            count = random.randint(1, 3)
            world[name].serve(random, CANARY, count, 0.8 * factor)
            world[name].serve(random, STABLE, 6, 0.8)
            served[CANARY] += count
            served[STABLE] += 6
        t = 30.0 * k
        pages = {name: one.show(t) for name, one in world.items() if random.random() >= unlucky or k == LOOKS}
        look, bases = take_look(bases, Reading(t, {KEY: pages}), KEY, PLAN, READY)
        if isinstance(look, Look):
            looks.append(look)
    return looks, served


def add_up(looks: list[Look], arm: int) -> Counts:
    return sum((look.metrics["score"][arm] for look in looks if look.settled), Counts())


def test_without_bad_luck_everything_is_counted_once() -> None:
    for seed in range(50):
        looks, served = list_looks(seed, 1.0, unlucky=0.0)
        assert [add_up(looks, arm).n for arm in (0, 1)] == [served[CANARY], served[STABLE]]


def test_with_bad_luck_nothing_is_counted_twice_and_nothing_is_negative() -> None:
    lost = 0.0
    for seed in range(150):
        looks, served = list_looks(seed, 1.0, unlucky=0.25)
        for arm, revision in ((0, CANARY), (1, STABLE)):
            counted = add_up(looks, arm)
            assert 0 <= counted.sum <= counted.n <= served[revision]
            lost += served[revision] - counted.n
    assert lost > 0, "there was bad luck"


def get_ln_e(looks: list[Look]) -> tuple[float, float]:
    state = start(CONFIG, {"score": Reference(0.8, 0.16)}, 0)
    verdict = None
    for look in looks:
        state, verdict = judge(state, look)
    return (
        (0.0, 0.0) if verdict is None else (verdict.metrics[0].ln_e_rollback, verdict.metrics[0].ln_e_promote)
    )


@pytest.mark.parametrize(("test", "factor"), [(0, 0.98), (1, 0.92)])
def test_bad_luck_raises_no_error_rate(test: int, factor: float) -> None:
    values = [math.exp(get_ln_e(list_looks(seed, factor, unlucky=0.2)[0])[test]) for seed in range(250)]
    assert fmean(values) <= 1 + 4 * stdev(values) / math.sqrt(len(values))
    assert len(set(values)) > 50


def test_the_order_in_which_pods_are_read_changes_nothing() -> None:
    world = {name: Counting() for name in PODS}
    first = {name: one.show(0) for name, one in world.items()}
    random = Random(1)
    for one in world.values():
        one.serve(random, CANARY, 7, 0.5)
        one.serve(random, STABLE, 70, 0.8)
    second = {name: one.show(30) for name, one in world.items()}
    looks = []
    for names in (PODS, tuple(reversed(PODS))):
        before, after = ({name: pages[name] for name in names} for pages in (first, second))
        bases = take_bases(Reading(0, {KEY: before}), KEY, PLAN)
        looks.append(take_look(bases, Reading(30, {KEY: after}), KEY, PLAN, READY)[0])
    assert looks[0] == looks[1]
