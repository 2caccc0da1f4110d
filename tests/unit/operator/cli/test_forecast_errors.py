"""How far `plan` is from what then happens: the table of docs/operations.md, simulated anew with a fixed seed."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from dspy_operator.cli.offline.planning import Conditions, build_forecast
from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
    judge,
    start,
)

Law = Callable[[Random, float], float]
"""(generator, factor on the mean) -> one score; means near 0.8."""

RUNS = 200
LOOK = 20
"""Canary samples a look."""

MOST_LOOKS = 2000
METRIC = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=1)
TABLE = Path(__file__).parents[4] / "docs/operations.md"


def draw_thumb(random: Random, factor: float) -> float:
    return 1.0 if random.random() < 0.8 * factor else 0.0


def draw_five_point(random: Random, factor: float) -> float:
    score = random.choices((0.0, 0.25, 0.5, 0.75, 1.0), (5, 5, 10, 25, 55))[0]
    return score if random.random() < factor else 0.0


def draw_judged(random: Random, factor: float) -> float:
    return factor * random.betavariate(4.888889, 1.222222)


LAWS: dict[str, Law] = {"thumbs": draw_thumb, "five-point": draw_five_point, "judge": draw_judged}


def draw_arm(random: Random, law: Law, factor: float, n: int) -> Counts:
    values = [law(random, factor) for _ in range(n)]
    return Counts(float(n), sum(values), sum(value * value for value in values))


def build_reference(law: Law) -> Reference:
    arm = draw_arm(Random(0), law, 1.0, 20_000)
    mean = arm.sum / arm.n
    return Reference(mean, (arm.sumsq or 0.0) / arm.n - mean**2)


def build_config(weight: float) -> RolloutConfig:
    return RolloutConfig((StepConfig(weight, deadline=1e9), StepConfig(100)), (METRIC,))


def simulate(law: Law, weight: float, drop: float, wanted: Action, seed: int) -> float:
    """Mean canary samples until the answer, over the runs."""
    random, config, reference = Random(seed), build_config(weight), build_reference(law)
    stable = round(LOOK * (100 - weight) / weight)
    taken = []
    for _ in range(RUNS):
        state = start(config, {"score": reference}, 0.0)
        for look in range(1, MOST_LOOKS):
            arms = draw_arm(random, law, 1 - drop, LOOK), draw_arm(random, law, 1.0, stable)
            state, verdict = judge(state, Look(30.0 * look, metrics={"score": arms}))
            if verdict.action is not Action.HOLD:
                break
        if verdict.action is wanted:
            taken.append(float(LOOK * look))
    assert len(taken) >= 0.9 * RUNS, f"only {len(taken)} of {RUNS} runs end with {wanted}"
    return fmean(taken)


def forecast(law: Law, weight: float, wanted: Action) -> float:
    """What `plan` says, at a traffic that brings looks of the same size."""
    rate = LOOK / 30.0 * 100 / weight
    step = build_forecast(
        build_config(weight), Conditions({"score": rate}, {"score": build_reference(law)})
    ).steps[0]
    samples = step.samples if wanted is Action.PROMOTE else step.worse[0].samples
    assert samples is not None
    return samples


@pytest.mark.parametrize(
    ("answer", "split", "name", "least"),
    [
        ("promoted", 50, "thumbs", 0.7),
        ("promoted", 50, "five-point", 0.7),
        ("promoted", 50, "judge", 0.7),
        ("promoted", 10, "thumbs", 0.7),
        ("rolled back", 50, "thumbs", 0.7),
        ("rolled back", 50, "five-point", 0.7),
        ("rolled back", 50, "judge", 0.35),
        ("rolled back", 10, "thumbs", 0.7),
        ("rolled back", 10, "five-point", 0.7),
        ("rolled back", 10, "judge", 0.35),
    ],
)
def test_a_forecast_is_near_what_then_happens(answer: str, split: int, name: str, least: float) -> None:
    wanted, drop = (Action.PROMOTE, 0.0) if answer == "promoted" else (Action.ROLL_BACK, 0.1)
    law = LAWS[name]
    said = forecast(law, split, wanted)
    happened = simulate(law, split, drop, wanted, seed=split)
    row = f"| {answer} | {split} % | {name} | {said:.0f} | {happened:.0f} | {happened / said:.2f} |"
    print(row)
    assert least <= happened / said <= 1.3
    assert row in TABLE.read_text(), f"docs/operations.md has another row than {row}"
