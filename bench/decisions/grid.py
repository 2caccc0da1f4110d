"""Every rule on the same streams: laws, splits and drops, 100 looks each; then 6,000 looks of a good canary."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from bench.decisions.laws import LAWS, Bools, Floats, Ints, Law, Sums, build_generator, build_reference, fill
from bench.decisions.rivals import ARGO, OURS, Rule, build_rules, get_drop
from numpy.random import Generator

LOOKS = 100
MANY_LOOKS = 6000
SPLITS = {"10/90": (20, 180), "50/50": (20, 20)}
DROPS = (0.0, 0.02, 0.05, 0.10, 0.20)
NEVER = np.iinfo(np.int64).max

Stream = Iterator[tuple[Sums, Sums]]


@dataclass(frozen=True)
class Ends:
    """The look of the first roll-back and of the first promotion in each run, `NEVER` if none."""

    back: Ints
    promoted: Ints

    @property
    def is_back(self) -> Bools:
        """Runs that were rolled back before anything else."""
        return (self.back < NEVER) & (self.back <= self.promoted)

    @property
    def is_promoted(self) -> Bools:
        """Runs that were promoted before anything else."""
        return (self.promoted < NEVER) & (self.promoted < self.back)


def run_rules(rules: dict[str, Rule], runs: int, stream: Stream) -> dict[str, Ends]:
    """The same looks for every rule; answers after the first of a kind are not counted."""
    ends = {name: Ends(fill(runs, NEVER), fill(runs, NEVER)) for name in rules}
    for look, arms in enumerate(stream, start=1):
        for name, rule in rules.items():
            for seen, answer in zip((ends[name].back, ends[name].promoted), rule.take(*arms), strict=True):
                seen[answer & (seen == NEVER)] = look
    return ends


def draw_looks(
    rng: Generator, law: Law, factor: float, sizes: tuple[int, int], runs: int, looks: int
) -> Stream:
    """Looks of constant size, the canary's mean `factor` times stable's."""
    n_c, n_s = fill(runs, sizes[0]), fill(runs, sizes[1])
    for _ in range(looks):
        yield law.draw(rng, factor, n_c), law.draw(rng, 1.0, n_s)


@dataclass(frozen=True)
class Cell:
    """One law, split, drop and rule; samples are the canary's.

    `median_samples` until the roll-back over all runs (None: fewer than half), `mean_samples` until either
    decision, undecided runs at the horizon; `wald`: the bound on it for any test of "at most 2 % worse".
    """

    law: str
    split: str
    drop: float
    rule: str
    runs: int
    rolled_back: float
    promoted: float
    median_samples: float | None
    mean_samples: float
    wald: float | None


@dataclass(frozen=True)
class Tuned:
    """A literal rule with any setting: `medians` samples to roll back at -10 and -20 %, and our own.

    `setting` is the least that rolls back at most 5 % at -2 % within 100 looks: chosen with hindsight, for this
    law, split and length alone.
    """

    law: str
    split: str
    rule: str
    setting: int
    medians: dict[int, tuple[float, float]]
    ours: tuple[float, float]

    def get_ratios(self, setting: int) -> tuple[float, float]:
        """Median samples over ours at -10 and -20 %."""
        theirs = self.medians[setting]
        return theirs[0] / self.ours[0], theirs[1] / self.ours[1]


def get_wald(law: Law, drop: float, odds: float) -> float | None:
    """Wald's bound on the mean canary samples at this drop, both errors 5 %, by the normal approximation."""
    if drop <= 0.02:
        return None
    (mean_s, var_s), (mean_c, var_c) = law.get_moments(), law.get_moments(1 - drop)
    distance = 0.98 * mean_s - mean_c
    return 2.65 * 2 * (var_c + 0.98**2 * odds * var_s) / distance**2


def find_median(ends: Ends, size: int) -> float | None:
    """Canary samples in which half of all runs were rolled back."""
    looks = np.where(ends.is_back, ends.back.astype(np.float64), np.inf)
    middle = float(np.median(looks))
    return middle * size if np.isfinite(middle) else None


def run_law(law_name: str, split: str, runs: int) -> tuple[list[Cell], list[Tuned]]:
    """All drops of one law and split."""
    law, sizes = LAWS[law_name], SPLITS[split]
    cells: list[Cell] = []
    drops, medians = {}, {}
    for drop in DROPS:
        rng = build_generator(f"{law_name} {split} {drop}")
        looks = list(draw_looks(rng, law, 1 - drop, sizes, runs, LOOKS))
        ends = run_rules(build_rules(runs, build_reference(law)), runs, iter(looks))
        wald = get_wald(law, drop, sizes[0] / sizes[1])
        cells += [build_cell(law_name, split, drop, name, end, sizes[0], wald) for name, end in ends.items()]
        drops[drop], medians[drop] = looks, find_median(ends[OURS], sizes[0])
    return cells, list_tuned(law_name, split, sizes[0], drops, medians)


def build_cell(
    law: str, split: str, drop: float, rule: str, ends: Ends, size: int, wald: float | None
) -> Cell:
    stopped = np.minimum(np.minimum(ends.back, ends.promoted), LOOKS)
    return Cell(
        law,
        split,
        drop,
        rule,
        len(ends.back),
        float(ends.is_back.mean()),
        float(ends.is_promoted.mean()),
        find_median(ends, size),
        float(stopped.mean()) * size,
        wald,
    )


def list_tuned(
    law: str,
    split: str,
    size: int,
    drops: dict[float, list[tuple[Sums, Sums]]],
    ours: dict[float, float | None],
) -> list[Tuned]:
    """The least `minSamples` of the literal rule and the least `failureLimit` that keep 95 % at -2 %."""
    horizon = float((LOOKS + 1) * size)
    own = ours[0.10] or horizon, ours[0.20] or horizon
    pooled = {drop: get_pooled_drops(looks) > 0.05 for drop, looks in drops.items()}
    failed = {
        drop: np.cumsum([get_drop(*arms) > 0.05 for arms in looks], axis=0) for drop, looks in drops.items()
    }
    later = np.logical_or.accumulate(pooled[0.02][::-1])[::-1].mean(axis=1)
    least = int(np.argmax(later <= 0.05)) if (later <= 0.05).any() else LOOKS - 1
    limit = int(np.quantile(failed[0.02][-1], 0.95, method="higher"))
    settings = range(LOOKS)
    literal = {
        (since + 1) * size: (
            get_median_look(pooled[0.10], since) * size,
            get_median_look(pooled[0.20], since) * size,
        )
        for since in settings
    }
    counted = {
        most: (
            get_median_look(failed[0.10] > most, 0) * size,
            get_median_look(failed[0.20] > most, 0) * size,
        )
        for most in settings
    }
    return [
        Tuned(law, split, "literal, minSamples", (least + 1) * size, literal, own),
        Tuned(law, split, "failureLimit", limit, counted, own),
    ]


def get_median_look(fired: Bools, since: int) -> float:
    """Median of the first look after `since` at which a run fires, `LOOKS` + 1 if none; (looks, runs)."""
    late = fired[since:]
    return float(np.median(np.where(late.any(axis=0), late.argmax(axis=0) + since + 1.0, LOOKS + 1.0)))


def get_pooled_drops(looks: list[tuple[Sums, Sums]]) -> Floats:
    """Drop of all samples so far: (looks, runs)."""
    c_n, c_t, s_n, s_t = (
        np.cumsum([getattr(arms[arm], name) for arms in looks], axis=0)
        for arm in (0, 1)
        for name in ("n", "total")
    )
    return np.asarray(1 - (c_t / c_n) / (s_t / s_n))


@dataclass(frozen=True)
class LongRun:
    """Roll-backs of an equal canary whose trial never ends: the share of runs rolled back by look k."""

    law: str
    rule: str
    runs: int
    looks: int
    rolled_back: float
    curve: dict[int, float]


MARKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000, 4000, 5000, 6000)


def run_long(law_name: str, runs: int, looks: int = MANY_LOOKS) -> list[LongRun]:
    """6,000 looks of 10 % (the judge's grades: 4 of 40, for time's sake), promotions ignored."""
    law = LAWS[law_name]
    sizes = (4, 36) if law_name == "judge" else SPLITS["10/90"]
    rules = build_rules(runs, build_reference(law))
    kept = {
        name: rules[name] for name in ("literal, minSamples 100", ARGO, "t-test", "pooled sequence", OURS)
    }
    stream = draw_looks(build_generator(f"long {law_name}"), law, 1.0, sizes, runs, looks)
    ends = run_rules(kept, runs, stream)
    return [
        LongRun(
            law_name,
            name,
            runs,
            looks,
            float((end.back < NEVER).mean()),
            {mark: float((end.back <= mark).mean()) for mark in MARKS if mark <= looks},
        )
        for name, end in ends.items()
    ]


def get_curve(law_name: str, drop: float, runs: int) -> dict[str, list[float]]:
    """Share of runs rolled back after each look at 10/90, a rule: the detection curve of one drop."""
    law, sizes = LAWS[law_name], SPLITS["10/90"]
    rng = build_generator(f"{law_name} 10/90 {drop}")
    reference = build_reference(law)
    names = (ARGO, "t-test", "pooled sequence", OURS)
    rules = {name: rule for name, rule in build_rules(runs, reference).items() if name in names}
    ends = run_rules(rules, runs, draw_looks(rng, law, 1 - drop, sizes, runs, LOOKS))
    return {
        name: [float((end.is_back & (end.back <= look)).mean()) for look in range(1, LOOKS + 1)]
        for name, end in ends.items()
    }
