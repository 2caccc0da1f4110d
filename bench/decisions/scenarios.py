"""Situations beyond the grid: an outage while the split changes, a dead canary, latency, a wrong split, restarts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from bench.decisions.engine import LatencyJudge, get_ln_mean_exp
from bench.decisions.grid import NEVER, Stream, run_rules
from bench.decisions.laws import LAWS, THUMBS, Floats, Sums, build_generator, build_reference, fill
from bench.decisions.rivals import FIRES, INTERVAL, SCORE, STEPPED, Ours, Stepped, build_rules

from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    Reference,
    RolloutConfig,
    StepConfig,
    Verdict,
    enter_step,
    judge,
    start,
)
from dspy_operator.rollout.judging.looks import build_rounded
from dspy_operator.rollout.judging.record import (
    StepEntered,
    append,
    fold,
    from_text,
    replay,
    start_record,
    to_text,
)
from dspy_operator.rollout.judging.sample_ratio import LN_ALARM, ODDS

PER_LOOK = 20


@dataclass(frozen=True)
class Outage:
    """One rule through an outage of the LM that begins or ends with the change from 10/90 to 50/50."""

    order: str
    rule: str
    drop: float
    rolled_back: float
    promoted: float


OUTAGES = {"begins with the split change": range(20, 40), "ends with the split change": range(20)}


def draw_outage(order: str, drop: float, runs: int) -> Stream:
    """10/90 for 20 looks, 50/50 for 40; in 20 looks both arms' thumbs fall by 40 %. No look is skipped."""
    rng, n_c = build_generator(f"outage {order} {drop}"), fill(runs, PER_LOOK)
    for look in range(60):
        level = 0.6 if look in OUTAGES[order] else 1.0
        n_s = fill(runs, 180 if look < 20 else PER_LOOK)
        yield THUMBS.draw(rng, level * (1 - drop), n_c), THUMBS.draw(rng, level, n_s)


def measure_outage(order: str, drop: float, runs: int) -> list[Outage]:
    """Every rule on the same looks; none is told of the outage, ours once of the step and once not."""
    reference = build_reference(THUMBS)
    rules = build_rules(runs, reference)
    rules[STEPPED] = Stepped(runs, reference, looks_before=20)
    ends = run_rules(rules, runs, draw_outage(order, drop, runs))
    return [
        Outage(order, name, drop, float(end.is_back.mean()), float(end.is_promoted.mean()))
        for name, end in ends.items()
    ]


def measure_dead_canary(stable_mean: float, runs: int) -> float:
    """Canary samples, all zero, until half of the runs are rolled back (100 looks at most); 10/90."""
    rng = build_generator(f"dead {stable_mean}")
    rule = Ours(runs, Reference(stable_mean, stable_mean * (1 - stable_mean)))
    nothing = Sums(np.full(runs, float(PER_LOOK)), np.zeros(runs), np.zeros(runs))
    for look in range(1, 101):
        good = rng.binomial(180, stable_mean, runs).astype(np.float64)
        back, _ = rule.take(nothing, Sums(np.full(runs, 180.0), good, good))
        if back.mean() >= 0.5:
            return float(look * PER_LOOK)
    return 101.0 * PER_LOOK


@dataclass(frozen=True)
class Latency:
    """Log-normal latencies, the canary's and stable's median over the reference's; 50 + 450 requests a look.

    `rolled_back` with the relative test, `absolute_alone` without; looks until half are rolled back or promoted.
    """

    canary: float
    stable: float
    rolled_back: float
    absolute_alone: float
    promoted: float
    looks_to_roll_back: int | None
    looks_to_promote: int | None


LATENCIES = ((1.0, 1.0), (1.2, 1.0), (1.4, 1.0), (2.0, 1.0), (2.0, 2.0), (2.4, 2.0), (4.0, 2.0))


def get_slow_share(scale: float, bound: float, sigma: float = 0.5) -> float:
    """P(slower than bound) of a log-normal latency with median `scale`."""
    return 0.5 * math.erfc(math.log(bound / scale) / sigma / math.sqrt(2))


def measure_latency(canary: float, stable: float, runs: int, looks: int = 60) -> Latency:
    """The limit is 1.2 x the reference's p95 and falls on a bound of the histogram."""
    p95, rng = math.exp(1.6448536 * 0.5), build_generator(f"latency {canary} {stable}")
    shares = get_slow_share(canary, 1.2 * p95), get_slow_share(stable, p95)
    both, n = LatencyJudge(runs, 0.2), (np.full(runs, 50.0), np.full(runs, 450.0))
    back, alone, promoted = (fill(runs, NEVER) for _ in range(3))
    for look in range(1, looks + 1):
        slow = (
            rng.binomial(50, shares[0], runs).astype(np.float64),
            rng.binomial(450, shares[1], runs).astype(np.float64),
        )
        both.take(INTERVAL * look, n, slow)
        for first, ln_e in (
            (back, both.get_ln_e_rollback()),
            (alone, get_ln_mean_exp(both.rollback)),
            (promoted, both.get_ln_e_promote()),
        ):
            first[(ln_e >= FIRES) & (first == NEVER)] = look
    is_back, is_promoted = (back < NEVER) & (back <= promoted), (promoted < NEVER) & (promoted < back)
    ends = ((is_back, back), (is_promoted, promoted))
    middles = [int(np.median(np.where(ended, first, looks + 1))) for ended, first in ends]
    return Latency(
        canary,
        stable,
        float(is_back.mean()),
        float((alone < NEVER).mean()),
        float(is_promoted.mean()),
        *(middle if middle <= looks else None for middle in middles),
    )


@dataclass(frozen=True)
class Split:
    """The sample-ratio check: canary's true share, expected 10 %, 200 requests a look."""

    share: float
    requests: int
    alarmed: float
    median_requests: float | None


def measure_split(share: float, runs: int, looks: int = 500) -> Split:
    """How many runs alarm, and after how many requests half of them did."""
    rng, per_look, expected = build_generator(f"split {share}"), 200, 0.1
    ln_odds = np.log(np.array(ODDS))[:, None]
    ln_scale = np.log1p(expected * (np.array(ODDS) - 1))[:, None]
    evidence: Floats = np.zeros((len(ODDS), runs))
    first = fill(runs, NEVER)
    for look in range(1, looks + 1):
        canary = rng.binomial(per_look, share, runs)
        evidence = evidence + canary * ln_odds - per_look * ln_scale
        first[(get_ln_mean_exp(evidence) >= LN_ALARM) & (first == NEVER)] = look
    middle = int(np.median(first))
    return Split(
        share,
        looks * per_look,
        float((first < NEVER).mean()),
        float(middle * per_look) if middle <= looks else None,
    )


REPLAYED_LOOKS = 80


def measure_replay(runs: int) -> float:
    """Share of kills after which the next verdict is exactly that of a judge that was never killed.

    The operator's own `judge`, every law, drops of 0 to 20 %. A kill at a random look leaves the record's text
    alone; the last look of every run is replayed too.
    """
    same = total = 0
    for run in range(runs):
        for plain, killed in list_replayed(run):
            same += plain == killed
            total += 1
    return same / total


def list_replayed(run: int) -> Iterator[tuple[Verdict, Verdict]]:
    """(undisturbed, killed) after each kill; step 2 begins at the first Advance or in the middle."""
    names = list(LAWS)
    name = names[run % len(names)]
    law, drop = LAWS[name], (0.0, 0.02, 0.1, 0.2)[run // len(names) % 4]
    rng, random = build_generator(f"replay {run}"), Random(run)
    steps = (StepConfig(10, min_samples=100), StepConfig(50), StepConfig(100))
    state = start(RolloutConfig(steps=steps, metrics=(SCORE,)), {"score": build_reference(law)}, 0)
    record = start_record(state)
    for number in range(1, REPLAYED_LOOKS + 1):
        sizes = fill(1, 20), fill(1, 180 if state.step == 1 else 20)
        arms = law.draw(rng, 1 - drop, sizes[0]), law.draw(rng, 1.0, sizes[1])
        look = Look(t=INTERVAL * number, metrics={"score": (get_counts(arms[0]), get_counts(arms[1]))})
        state, plain = judge(state, look)
        if random.random() < 0.3:
            restarted = from_text(to_text(record))
            yield plain, judge(fold(restarted), look)[1]
            record = restarted if random.random() < 0.5 else start_record(fold(restarted))
        record = append(record, build_rounded(look))
        if plain.action in {Action.ROLL_BACK, Action.PROMOTE}:
            yield plain, [verdict for _, _, verdict in replay(record) if verdict is not None][-1]
            return
        if state.step == 1 and (plain.action is Action.ADVANCE or number == REPLAYED_LOOKS // 2):
            state = enter_step(state, 2, look.t)
            record = append(record, StepEntered(2, look.t))


def get_counts(sums: Sums) -> Counts:
    """The first run's arm."""
    return Counts(float(sums.n[0]), float(sums.total[0]), float(sums.squares[0]))
