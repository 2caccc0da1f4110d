"""Over-dispersion: do scores that come together resemble each other more than chance allows?

Blocks of looks are compared with the block before (von Neumann), so that a constant drop cancels.
"""

from dataclasses import dataclass, replace

from dspy_operator.rollout.judging.engine import Estimates
from dspy_operator.rollout.judging.moments import NO_MOMENTS, Moments

BLOCK = 20.0
PRIOR = 5.0
LARGEST = 16.0


@dataclass(frozen=True, slots=True)
class Dispersion:
    """The partial block, the last whole one (difference, its variance) and the sums of z²."""

    canary: Moments = NO_MOMENTS
    stable: Moments = NO_MOMENTS
    previous: tuple[float, float] | None = None
    squares: float = 0.0
    count: int = 0

    @property
    def factor(self) -> float:
        """m̂ ≥ 1: what each gain is divided by."""
        return max(1.0, (PRIOR + self.squares) / (PRIOR + self.count))


NO_DISPERSION = Dispersion()


def build_step_dispersion(old: Dispersion) -> Dispersion:
    """At a step start: the partial block and the last difference go, what was learnt stays."""
    return Dispersion(squares=old.squares, count=old.count)


def build_dispersion(
    old: Dispersion, before: Estimates, canary: Moments, stable: Moments, ratio: float
) -> Dispersion:
    """After one consumed look. During bake `stable` is empty: its frozen mean would cancel anyway."""
    grown = replace(old, canary=old.canary + canary, stable=old.stable + stable)
    if grown.canary.n < BLOCK:
        return grown
    difference = grown.canary.total / grown.canary.n
    variance = before.canary_variance / grown.canary.n
    if grown.stable.n > 0:
        difference -= ratio * grown.stable.total / grown.stable.n
        variance += ratio**2 * before.stable_variance / grown.stable.n
    squares, count = old.squares, old.count
    if old.previous is not None:
        last, last_variance = old.previous
        squares += min((difference - last) ** 2 / (variance + last_variance), LARGEST)
        count += 1
    return Dispersion(previous=(difference, variance), squares=squares, count=count)
