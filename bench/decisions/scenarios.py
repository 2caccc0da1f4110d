"""Situations beyond the grid: an outage while the split changes, a dead canary, latency, whole rollouts.

Each measures one number that has a stated limit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from statistics import median

from bench.decisions.laws import LAWS, build_reference, draw_arm, draw_thumb, get_moments
from bench.decisions.rivals import SCORE, Sequential

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.plan import LOOKS as PLAN_LOOKS
from dspy_operator.rollout.judging.plan import Arms, find_samples_to_promote

LATENCY = MetricConfig("latency", MetricType.LATENCY_P95, margin=0.2)
PER_LOOK = 20


@dataclass(frozen=True)
class Scenario:
    """What is measured over a number of runs, and its limit."""

    measure: Callable[[int], float]
    limit: float


def list_outage_arms(random: Random, factor: float) -> Iterator[tuple[Counts, Counts]]:
    """10/90 for 20 looks; then 50/50 while the provider fails for both arms (scores x 0.6) for 20; then 50/50."""
    for look in range(60):
        level = 0.6 if 20 <= look < 40 else 1.0
        n_s = 180 if look < 20 else PER_LOOK
        yield draw_arm(random, draw_thumb, level * factor, PER_LOOK), draw_arm(random, draw_thumb, level, n_s)


def measure_outage(runs: int, factor: float, end: str) -> float:
    """Share of rollouts that end wrongly by evidence."""
    wrong = 0
    for run in range(runs):
        random = Random(f"outage {factor} {run}")
        rule = Sequential(Reference(0.8, 0.16))
        for arms in list_outage_arms(random, factor):
            back = rule.is_rolled_back(*arms)
            if back or rule.promotes:
                wrong += (end == "back" and back) or (end == "promoted" and rule.promotes)
                break
    return wrong / runs


def measure_dead_canary(runs: int) -> float:
    """Canary samples, all zero, until it is rolled back; stable scores 0.98 for 97 in 100 requests, or 0.999."""
    slowest = 0.0
    for mean in (0.98, 0.999):
        found = []
        for run in range(min(runs, 50)):
            random = Random(f"dead {mean} {run}")
            rule, samples = Sequential(Reference(mean, mean * (1 - mean))), 0
            while samples < 1000:
                samples += PER_LOOK
                good = sum(random.random() < mean for _ in range(180))
                if rule.is_rolled_back(Counts(PER_LOOK), Counts(180, good, good)):
                    break
            found.append(samples)
        slowest = max(slowest, median(found))
    return slowest


def get_slow_share(scale: float, bound: float, sigma: float = 0.5) -> float:
    """P(slower than bound) of a log-normal latency with median `scale`."""
    return 0.5 * math.erfc(math.log(bound / scale) / sigma / math.sqrt(2))


def list_latency_ends(runs: int, canary: float, stable: float) -> list[tuple[Action, int]]:
    """The end of each run of 60 looks, 50 + 450 requests a look, limit 1.2 x stable's usual p95."""
    p95 = math.exp(1.6449 * 0.5)
    shares = get_slow_share(canary, 1.2 * p95), get_slow_share(stable, p95)
    config = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=(LATENCY,))
    ends = []
    for run in range(runs):
        random = Random(f"latency {canary} {stable} {run}")
        state, looks, action = start(config, {"latency": Reference()}, 0), 0, Action.HOLD
        while looks < 60 and action is not Action.ROLL_BACK:
            looks += 1
            slow = [
                sum(random.random() < share for _ in range(n))
                for n, share in zip((50, 450), shares, strict=True)
            ]
            arms = (Counts(50, bad=slow[0]), Counts(450, bad=slow[1]))
            state, verdict = judge(state, Look(t=30.0 * looks, metrics={"latency": arms}))
            action = verdict.action
        ends.append((action, looks))
    return ends


def measure_latency_false(runs: int) -> float:
    ends = list_latency_ends(min(runs, 60), canary=2.4, stable=2.0)
    return sum(action is Action.ROLL_BACK for action, _ in ends) / len(ends)


def measure_latency_looks(runs: int) -> float:
    return median(looks for _, looks in list_latency_ends(min(runs, 60), canary=2.0, stable=1.0))


def measure_rollout(runs: int, law_name: str, factor: float, bad: Action, deadline_samples: int) -> float:
    """Whole rollouts through `judge`, 10 % with minSamples 100, then 50 %: the share that ends as `bad`."""
    law = LAWS[law_name]
    steps = (
        StepConfig(10, min_samples=100, deadline=1e9),
        StepConfig(50, deadline=30.0 * deadline_samples / PER_LOOK),
    )
    config = RolloutConfig(steps=(*steps, StepConfig(100)), metrics=(SCORE,))
    reference = build_reference(law)
    wrong = 0
    for run in range(runs):
        random = Random(f"rollout {law_name} {factor} {run}")
        state, t, stable_n = start(config, {"score": reference}, 0), 0.0, 180
        while t < 30_000:
            t += 30
            arms = (draw_arm(random, law, factor, PER_LOOK), draw_arm(random, law, 1.0, stable_n))
            state, verdict = judge(state, Look(t=t, metrics={"score": arms}))
            if verdict.action is Action.ADVANCE:
                state, stable_n = enter_step(state, 2, t), PER_LOOK
            elif verdict.action is not Action.HOLD:
                wrong += verdict.action is bad
                break
    return wrong / runs


def measure_plan(runs: int) -> float:
    """How far the mean of what happens lies from the forecast of a promotion at 50/50: |ratio - 1|, the worst law."""
    worst = 0.0
    for law_name in ("thumbs", "five-point"):
        law, (mean, variance) = LAWS[law_name], get_moments(LAWS[law_name], 1.0)
        arms = Arms(mean, variance, variance, share=0.5)
        config = RolloutConfig(steps=(StepConfig(50), StepConfig(100)), metrics=(SCORE,))
        planned = (find_samples_to_promote(config, SCORE, arms) or math.inf) + PLAN_LOOKS * PER_LOOK
        total = 0
        for run in range(min(runs, 200)):
            random, rule, samples = Random(f"plan {law_name} {run}"), Sequential(build_reference(law)), 0
            while not rule.promotes and samples < 10_000:
                samples += PER_LOOK
                rule.is_rolled_back(
                    draw_arm(random, law, 1.0, PER_LOOK), draw_arm(random, law, 1.0, PER_LOOK)
                )
            total += samples
        worst = max(worst, abs(total / min(runs, 200) / planned - 1))
    return worst


SCENARIOS = {
    "outage and split change, equal canary rolled back": Scenario(
        lambda r: measure_outage(r, 1.0, "back"), 0.01
    ),
    "outage and split change, -10 % promoted": Scenario(
        lambda r: measure_outage(max(r, 600), 0.9, "promoted"), 0.01
    ),
    "samples until an all-zero canary falls": Scenario(measure_dead_canary, 60),
    "latency, false under a shared x 2": Scenario(measure_latency_false, 0.0),
    "latency, looks until x 2 is found": Scenario(measure_latency_looks, 4),
    "|measured / planned - 1| of a promotion": Scenario(measure_plan, 0.3),
    "whole rollout, thumbs, equal canary rolled back, deadline 1,500": Scenario(
        lambda r: measure_rollout(r, "thumbs", 1.0, Action.ROLL_BACK, 1500), 0.013
    ),
    "whole rollout, thumbs, -10 % promoted, deadline 1,500": Scenario(
        lambda r: measure_rollout(r, "thumbs", 0.9, Action.PROMOTE, 1500), 0.012
    ),
    "whole rollout, five-point, equal canary rolled back, deadline 600": Scenario(
        lambda r: measure_rollout(r, "five-point", 1.0, Action.ROLL_BACK, 600), 0.02
    ),
}
