"""Running sums of one arm's samples, and what is estimated from them.

The engine bets with estimates from earlier looks only; these hold them.
"""

from dataclasses import dataclass

LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Moments:
    """n, Σx and Σx² of samples x in [0, 1]."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        """Σx/n, clipped to [0, 1]; n must not be 0."""
        return min(max(self.total / self.n, 0.0), 1.0)

    @property
    def variance(self) -> float:
        """The samples' variance, at least 0.0001."""
        return max(self.squares / self.n - (self.total / self.n) ** 2, LEAST_VARIANCE)


NO_MOMENTS = Moments()


def build_prior(weight: float, mean: float, variance: float) -> Moments:
    """The sums that `weight` earlier samples of this mean and variance would have left."""
    return Moments(weight, weight * mean, weight * (variance + mean**2))
