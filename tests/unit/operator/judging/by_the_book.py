"""The sequential test a second time, written down formula by formula from the documentation and not for speed.

The tests hold the judge to it; nothing here is taken from the judge but its configuration.
"""

import math
from dataclasses import dataclass, field

from dspy_operator.rollout.judging import MetricConfig, MetricType

Arm = tuple[float, float, float]
"""n, sum of x, sum of x squared."""

COSTS = (0.75, 0.9, 0.97)
SLOW_R = (0.075, 0.1, 0.15, 0.25, 0.5, 0.8)
SLOW_P = (0.01, 0.02, 0.035, 0.05)


@dataclass
class Sums:
    """Running sums of an arm, the prior's pseudo-samples included."""

    n: float
    s: float
    q: float

    def estimate(self) -> tuple[float, float]:
        """Mean and variance."""
        mean = self.s / self.n
        return min(1.0, max(0.0, mean)), max(self.q / self.n - mean * mean, 1e-4)

    def add(self, arm: Arm) -> None:
        self.n, self.s, self.q = self.n + arm[0], self.s + arm[1], self.q + arm[2]


@dataclass
class Book:
    """One metric of a rollout with `rows` rows of rollback evidence."""

    metric: MetricConfig
    mean: float
    variance: float
    rows: int
    rollback: list[list[float]] = field(default_factory=list)
    promote: list[float] = field(default_factory=list)
    slow_rollback: list[list[float]] = field(default_factory=list)
    slow_promote: list[float] = field(default_factory=list)
    pairs: list[tuple[Arm, Arm]] = field(default_factory=list)
    block: list[tuple[Arm, Arm]] = field(default_factory=list)
    last: tuple[float, float] | None = None
    squares: float = 0.0
    compared: int = 0
    reference: float | None = None

    def __post_init__(self) -> None:
        g = 0.6 * self.metric.margin if self.metric.tolerance is None else self.metric.tolerance
        self.d0, self.d1 = self.metric.margin - g, self.metric.margin + g
        self.is_latency = self.metric.type is MetricType.LATENCY_P95
        m0, v0 = (0.95, 0.0475) if self.is_latency else (self.mean, self.variance)
        self.canary, self.stable = (Sums(k, k * m0, k * (v0 + m0 * m0)) for k in (20.0, 200.0))
        self.enter(1)

    @property
    def is_score(self) -> bool:
        return self.metric.type is MetricType.SCORE

    def enter(self, row: int) -> None:
        """A step begins."""
        while len(self.rollback) < row:
            self.rollback.append([0.0] * len(self.list_components("R")))
            self.slow_rollback.append([0.0] * len(SLOW_R))
        self.promote = [0.0] * len(self.list_components("P"))
        self.slow_promote = [0.0] * len(SLOW_P)
        self.pairs, self.block, self.last = [], [], None

    def enter_bake(self) -> None:
        """All traffic to the canary."""
        self.enter(self.rows)
        self.reference = self.stable.estimate()[0]

    def list_components(self, test: str) -> list[tuple[float, float]]:
        """(gap, tau)."""
        if self.is_latency:
            return [(0.05, 0.0), (0.15, 1.0), (0.5, 1.0)] if test == "R" else [(0.05, 0.0)]
        d0, d1 = self.d0, self.d1
        h = max(d1, 2 * self.metric.margin)
        match test:
            case "R":
                return [(h - d0, 0.0), (h - d0, 1.0), (h + 0.1 - d0, 1.0), (h + 0.3 - d0, 1.0)]
            case "bake":
                return [(d1, 0.0), (d1, 1.0), (d1 + 0.1, 1.0), (d1 + 0.3, 1.0)]
            case _:
                return ([(d1 - d0, 0.0)] if d1 > d0 else []) + [(d1, 0.0)]

    def get_null(self, test: str) -> tuple[float, float]:
        """r and a."""
        if self.is_latency:
            return 1.0, 0.0 if test == "R" else 0.05
        d = self.d0 if test == "R" else self.d1
        return (max(0.0, 1 - d), 0.0) if self.is_score else (1.0, d)

    @property
    def m(self) -> float:
        """Over-dispersion."""
        return max(1.0, (5 + self.squares) / (5 + self.compared))

    def look(self, canary: Arm, stable: Arm) -> None:
        """Both arms have samples."""
        m = self.m
        before = self.canary.estimate(), self.stable.estimate()
        gains = self.list_gains("R", canary, stable)
        self.rollback = [[old + new for old, new in zip(row, gains, strict=True)] for row in self.rollback]
        gains = self.list_gains("P", canary, stable)
        self.promote = [old + new for old, new in zip(self.promote, gains, strict=True)]
        if self.is_latency:
            n, slow = canary[0], canary[0] - canary[1]
            self.slow_rollback = [
                [old + get_slow_gain(n, slow, 0.05, q, m) for old, q in zip(row, SLOW_R, strict=True)]
                for row in self.slow_rollback
            ]
            self.slow_promote = [
                old + get_slow_gain(n, slow, 0.10, q, m)
                for old, q in zip(self.slow_promote, SLOW_P, strict=True)
            ]
        self.pairs.append((canary, stable))
        self.close(canary, stable, before)

    def look_in_bake(self, canary: Arm) -> None:
        """The canary alone, against the frozen mean."""
        assert self.reference is not None
        mean, variance = self.canary.estimate()
        gains = self.list_gains("bake", canary, None)
        self.rollback[-1] = [old + new for old, new in zip(self.rollback[-1], gains, strict=True)]
        n = canary[0]
        # Paired with as many samples of exactly the frozen mean: the estimate becomes 1 - mean / reference.
        self.pairs.append((canary, (n, n * self.reference, 0.0)))
        self.close(canary, None, ((mean, variance), (self.reference, 0.0)))

    def list_gains(self, test: str, canary: Arm, stable: Arm | None) -> list[float]:
        """min(l / m, 2) of each component."""
        r, a = self.get_null(test)
        (x_c, v_c), (x_s, v_s) = self.canary.estimate(), self.stable.estimate()
        n_c, s_c, q_c = canary
        w, led, spread_s = 0.0, 0.0, 0.0
        if stable is None:
            assert self.reference is not None
            x_s = self.reference
            led = r * n_c * x_s
        else:
            n_s, s_s, q_s = stable
            w = r * n_c / n_s
            led = w * s_s
            spread_s = max(0.0, q_s - 2 * x_s * s_s + n_s * x_s * x_s)
        spread_c = max(0.0, q_c - 2 * x_c * s_c + n_c * x_c * x_c)
        b_c, b_s = (x_c, 1 - x_s) if test == "P" else (1 - x_c, x_s)
        b_c, b_s = max(b_c, 0.02), max(b_s, 0.02)
        sign = -1 if test == "P" else 1
        gains = []
        for gap, tau in self.list_components(test):
            delta = gap * max(x_s, 0.05) if self.is_score else gap
            bet = delta / (v_c + tau * delta * x_c + r * w * v_s + max(b_c, w * b_s) * delta)
            penalty = spread_c * psi(bet * b_c) / b_c**2 + spread_s * psi(bet * w * b_s) / b_s**2
            gains.append(min((sign * bet * (led - s_c - a * n_c) - penalty) / self.m, 2.0))
        return gains

    def close(
        self, canary: Arm, stable: Arm | None, before: tuple[tuple[float, float], tuple[float, float]]
    ) -> None:
        """Running sums and over-dispersion, after the bets."""
        self.block.append((canary, stable or (0.0, 0.0, 0.0)))
        n_c, n_s = (sum(look[arm][0] for look in self.block) for arm in (0, 1))
        if n_c >= 20:
            s_c, s_s = (sum(look[arm][1] for look in self.block) for arm in (0, 1))
            r, _ = self.get_null("R")
            difference, v = s_c / n_c, before[0][1] / n_c
            if n_s:
                difference, v = difference - r * s_s / n_s, v + r * r * before[1][1] / n_s
            if self.last is not None:
                self.squares += min((difference - self.last[0]) ** 2 / (v + self.last[1]), 16.0)
                self.compared += 1
            self.last, self.block = (difference, v), []
        self.canary.add(canary)
        if stable is not None:
            self.stable.add(stable)

    @property
    def ln_e_rollback(self) -> float:
        """Ln E of test R; rows that have not begun count 1."""
        ln_e = get_ln_mean(self.rollback, self.rows)
        return min(ln_e, get_ln_mean(self.slow_rollback, self.rows)) if self.is_latency else ln_e

    @property
    def ln_e_promote(self) -> float:
        """Ln E of test P."""
        ln_e = get_ln_mean([self.promote], 1)
        if not self.is_latency:
            return ln_e
        return math.log((math.exp(ln_e) + math.exp(get_ln_mean([self.slow_promote], 1))) / 2)

    @property
    def drop(self) -> float:
        """The step's estimate: positive is worse."""
        if self.is_latency:
            slow = [
                1 - sum(p[arm][1] for p in self.pairs) / sum(p[arm][0] for p in self.pairs) for arm in (0, 1)
            ]
            return slow[0] - slow[1]
        a = math.fsum(c[1] * s[0] / (c[0] + s[0]) for c, s in self.pairs)
        b = math.fsum(s[1] * c[0] / (c[0] + s[0]) for c, s in self.pairs)
        both = math.fsum(c[0] * s[0] / (c[0] + s[0]) for c, s in self.pairs)
        return 1 - a / b if self.is_score else (b - a) / both


def psi(u: float) -> float:
    """-ln(1 - u) - u."""
    return -math.log(1 - u) - u


def get_slow_gain(n: float, slow: float, p: float, q: float, m: float) -> float:
    """What so many slow requests say for a share q against p."""
    return min((slow * math.log(q / p) + (n - slow) * math.log((1 - q) / (1 - p))) / m, 2.0)


def get_ln_mean(rows: list[list[float]], all_rows: int) -> float:
    """Ln of the mean of exp over all cells, those of rows that have not begun being 1."""
    width = len(rows[0])
    total = math.fsum(math.exp(cell) for row in rows for cell in row) + (all_rows - len(rows)) * width
    return math.log(total / (all_rows * width))


@dataclass
class CostBook:
    """The sign test on blocks of at least 20 requests of each arm."""

    margin: float
    rows: int
    dearer: int = 0
    cheaper: int = 0

    def block(self, *, is_dearer: bool) -> None:
        """One block is full."""
        self.dearer, self.cheaper = self.dearer + is_dearer, self.cheaper + (not is_dearer)

    def get_ln_e(self, hits: int, misses: int, rows: int) -> float:
        """Ln E of so many blocks, in one of so many rows."""
        cells = [(q / 0.6) ** hits * ((1 - q) / 0.4) ** misses for q in COSTS]
        return math.log((math.fsum(cells) + (rows - 1) * len(COSTS)) / (rows * len(COSTS)))
