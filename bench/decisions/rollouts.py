"""Whole rollouts: 10 % until the gate opens, 50 % until evidence or the deadline; late regressions; the plan.

The gate and the deadline are written again on arrays; a test holds them to the operator's `judge`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from bench.decisions.engine import Judge
from bench.decisions.grid import draw_looks, run_rules
from bench.decisions.laws import (
    LAWS,
    Bools,
    Floats,
    Ints,
    Law,
    Sums,
    build_generator,
    build_reference,
    fill,
)
from bench.decisions.rivals import FIRES, INTERVAL, MARGIN, OURS, SCORE, Ours
from numpy.random import Generator

from dspy_operator.rollout.judging import RolloutConfig, StepConfig
from dspy_operator.rollout.judging.plan import LOOKS as PLAN_LOOKS
from dspy_operator.rollout.judging.plan import Arms, find_samples_to_promote, find_samples_to_roll_back

PER_LOOK = 20
STABLE = {1: 180, 2: 20}
SLACK = 1e-9


@dataclass(frozen=True)
class Course:
    """What a whole rollout is given: `deadline` canary samples at 50 %, drops in steps 1 and 2.

    `late`: samples of step 2 before its drop begins.
    """

    law: str
    drops: tuple[float, float]
    deadline: int
    gate: int = 100
    late: int = 0

    @property
    def name(self) -> str:
        """Names the stream."""
        return f"rollout {self.law} {self.drops} {self.deadline} {self.gate} {self.late}"


@dataclass
class Trial:
    """All runs of one course on the way; `ends` by 'back', 'promoted', and by evidence or not."""

    runs: int
    law: Law
    course: Course
    step: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.judge = Judge(self.runs, SCORE, build_reference(self.law), rows=2)
        self.step = np.ones(self.runs, dtype=np.int64)
        self.entered, self.samples = np.zeros(self.runs), np.zeros(self.runs)
        self.running = np.ones(self.runs, dtype=np.bool_)
        self.back, self.promoted, self.by_evidence = (np.zeros(self.runs, dtype=np.bool_) for _ in range(3))

    def draw(self, rng: Generator) -> tuple[Sums, Sums]:
        """The next look; ended runs have no samples."""
        late = (self.step == 2) & (self.judge.step_n >= self.course.late)
        factor = 1 - np.where(late, self.course.drops[1], self.course.drops[0])
        sizes = np.where(self.step == 1, STABLE[1], STABLE[2])
        canary = self.law.draw(rng, factor, np.where(self.running, PER_LOOK, 0))
        return canary, self.law.draw(rng, 1.0, np.where(self.running, sizes, 0))

    def take(self, t: float, canary: Sums, stable: Sums) -> None:
        """One look at `t`: roll back, gate, deadline, in this order."""
        self.judge.take(t, canary, stable)
        self.samples += canary.n
        back = self.running & (self.judge.get_ln_e_rollback() >= FIRES)
        self._end(self.back, back, by_evidence=True)
        is_above = ~(self.judge.get_drop() <= MARGIN + SLACK)
        least = np.where(self.step == 1, self.course.gate, SCORE.min_samples)
        is_open = self.running & (self.judge.step_n >= least) & ~is_above
        good = is_open & (self.step == 2) & (self.judge.get_ln_e_promote() >= FIRES)
        self._end(self.promoted, good, by_evidence=True)
        self._decide_late(t, is_above, is_open)
        self._advance(t, is_open & (self.step == 1))

    def _decide_late(self, t: float, is_above: Bools, is_open: Bools) -> None:
        seconds = INTERVAL * self.course.deadline / PER_LOOK
        over = self.running & (self.step == 2) & (t - self.entered >= seconds - SLACK)
        self._end(self.back, over & is_above & (self.judge.step_n >= SCORE.min_samples), by_evidence=False)
        self._end(self.promoted, over & is_open, by_evidence=False)

    def _advance(self, t: float, entering: Bools) -> None:
        self.judge.enter_step(entering, 2)
        self.step[entering], self.entered[entering] = 2, t

    def _end(self, kind: Bools, ended: Bools, *, by_evidence: bool) -> None:
        kind |= ended
        self.by_evidence |= ended & by_evidence
        self.running &= ~ended


@dataclass(frozen=True)
class Outcome:
    """Shares of runs; `median_samples` canary samples of the whole rollout until its end."""

    course: Course
    runs: int
    rolled_back: float
    rolled_back_by_evidence: float
    promoted: float
    promoted_by_evidence: float
    median_samples: float


def run_course(
    course: Course, runs: int, watch: Callable[[Trial, Sums, Sums], None] | None = None
) -> Outcome:
    """Until every run has ended, 1,000 looks at most; `watch` sees each look after it was judged."""
    trial, rng = Trial(runs, LAWS[course.law], course), build_generator(course.name)
    for look in range(1, 1001):
        canary, stable = trial.draw(rng)
        trial.take(INTERVAL * look, canary, stable)
        if watch is not None:
            watch(trial, canary, stable)
        if not trial.running.any():
            break
    return Outcome(
        course,
        runs,
        float(trial.back.mean()),
        float((trial.back & trial.by_evidence).mean()),
        float(trial.promoted.mean()),
        float((trial.promoted & trial.by_evidence).mean()),
        float(np.median(trial.samples)),
    )


WHOLE = [
    Course(law, (drop, drop), deadline)
    for law in ("thumbs", "five-point")
    for deadline in (600, 1500)
    for drop in (0.0, 0.02, 0.10, 0.20)
]
LATE = [
    Course("thumbs", (0.0, drop), 1500, gate, late)
    for gate, late in ((600, 0), (100, 200))
    for drop in (0.10, 0.20)
]


@dataclass(frozen=True)
class Forecast:
    """Mean canary samples until a verdict over what `plan` says beforehand."""

    law: str
    split: str
    verdict: str
    planned: float
    measured: float

    @property
    def ratio(self) -> float:
        """1: the plan is right on average."""
        return self.measured / self.planned


def measure_forecasts(law_name: str, runs: int) -> list[Forecast]:
    """To promote an equal canary and to roll back one 10 % worse, one step of 10 % or of 50 %."""
    law, found = LAWS[law_name], []
    mean, variance = law.get_moments()
    for split, share, stable_n in (("10/90", 0.1, 180), ("50/50", 0.5, 20)):
        config = RolloutConfig(steps=(StepConfig(100 * share), StepConfig(100)), metrics=(SCORE,))
        arms = Arms(mean, variance, variance, share)
        promote = find_samples_to_promote(config, SCORE, arms) or math.inf
        back = find_samples_to_roll_back(config, SCORE, arms) or math.inf
        for verdict, drop, samples in (("Promote", 0.0, promote), ("RollBack", 0.1, back)):
            rng = build_generator(f"plan {law_name} {split} {verdict}")
            looks = draw_looks(rng, law, 1 - drop, (PER_LOOK, stable_n), runs, 250)
            ends = run_rules({OURS: Ours(runs, build_reference(law))}, runs, looks)[OURS]
            first = np.minimum(np.minimum(ends.back, ends.promoted), 250)
            planned = samples + PLAN_LOOKS * PER_LOOK
            found.append(Forecast(law_name, split, verdict, planned, float(first.mean()) * PER_LOOK))
    return found


@dataclass(frozen=True)
class Traffic:
    """One rate and weight, looks every 30 s, Poisson arrivals: what evidence alone decides within the horizon."""

    requests_per_hour: float
    weight: int
    drop: float
    hours: float
    rolled_back: float
    promoted: float
    median_hours: float | None
    unpaired: float
    """Share of canary samples that found no stable one within ten minutes."""


RATES = {20.0: 6000, 120.0: 6000, 1200.0: 1200, 36000.0: 60}
"""Requests an hour, and the looks that are watched."""


def measure_traffic(rate: float, weight: int, drop: float, runs: int, most: int) -> Traffic:
    """Thumbs at `rate` requests an hour, at most `most` looks."""
    law, looks = LAWS["thumbs"], min(RATES[rate], most)
    rng, rule = (
        build_generator(f"traffic {rate} {weight} {drop}"),
        Ours(runs, build_reference(LAWS["thumbs"])),
    )
    mean = rate / 3600 * INTERVAL
    seen = np.zeros(runs)

    def draw(share: float, factor: float) -> Sums:
        return law.draw(rng, factor, rng.poisson(mean * share, runs).astype(np.int64))

    back, promoted = fill(runs, looks + 1), fill(runs, looks + 1)
    for look in range(1, looks + 1):
        canary, stable = draw(weight / 100, 1 - drop), draw(1 - weight / 100, 1.0)
        seen += canary.n
        for first, answer in zip((back, promoted), rule.take(canary, stable), strict=True):
            first[answer & (first > looks)] = look
    is_back, is_promoted = (back <= looks) & (back <= promoted), (promoted <= looks) & (promoted < back)
    decided: Floats = np.where(is_back | is_promoted, np.minimum(back, promoted) * INTERVAL / 3600, np.inf)
    middle = float(np.median(decided))
    return Traffic(
        rate,
        weight,
        drop,
        looks * INTERVAL / 3600,
        float(is_back.mean()),
        float(is_promoted.mean()),
        middle if math.isfinite(middle) else None,
        float(1 - rule.judge.step_n.sum() / max(1.0, seen.sum())),
    )
