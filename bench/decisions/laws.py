"""Families of scores in [0, 1], made worse by a given relative drop, drawn for many runs at once.

Every draw comes from a generator seeded by the cell's name; an arm of a look is reduced to n, Σx and Σx².
"""

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dspy_operator.rollout.judging import Reference

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SEED = 20261123
"""With the cell's name it seeds every stream of the benchmark."""


@dataclass(frozen=True, slots=True)
class Sums:
    """One arm's n, Σx and Σx², each of shape (runs,)."""

    n: Floats
    total: Floats
    squares: Floats

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def at(self, index: NDArray[np.intp]) -> "Sums":
        """The runs at `index`."""
        return Sums(self.n[index], self.total[index], self.squares[index])


def build_sums(runs: int) -> Sums:
    """No samples in any run."""
    return Sums(np.zeros(runs), np.zeros(runs), np.zeros(runs))


class Law(Protocol):
    """How scores are distributed; `factor` multiplies the mean, a scalar or one a run."""

    def draw(self, rng: Generator, factor: float | Floats, n: Ints) -> Sums:
        """One arm of one look: `n` samples in each run, of shape (runs,)."""
        ...

    def get_moments(self, factor: float = 1.0) -> tuple[float, float]:
        """Mean and variance of one sample, exactly."""
        ...


@dataclass(frozen=True)
class Discrete:
    """A few values with probabilities; a worse canary gives 0 instead, with probability 1 - factor."""

    values: tuple[float, ...]
    shares: tuple[float, ...]

    def draw(self, rng: Generator, factor: float | Floats, n: Ints) -> Sums:
        """One binomial draw a value, each from what the values before it left over."""
        left, chance = n, np.ones(len(n))
        total, squares = np.zeros(len(n)), np.zeros(len(n))
        for value, share in zip(self.values, self.shares, strict=True):
            part = share * factor
            hits = rng.binomial(left, np.clip(part / chance, 0.0, 1.0))
            total, squares = total + value * hits, squares + value**2 * hits
            left, chance = left - hits, np.maximum(chance - part, 1e-12)
        return Sums(n.astype(np.float64), total, squares)

    def get_moments(self, factor: float = 1.0) -> tuple[float, float]:
        """Mean and variance; what is not in `values` is 0."""
        mean = factor * sum(v * p for v, p in zip(self.values, self.shares, strict=True))
        squares = factor * sum(v * v * p for v, p in zip(self.values, self.shares, strict=True))
        return mean, squares - mean**2


@dataclass(frozen=True)
class Graded:
    """A judge's grades, Beta(a, b); a worse canary's are multiplied by the factor."""

    a: float
    b: float

    def draw(self, rng: Generator, factor: float | Floats, n: Ints) -> Sums:
        """As many columns as the largest arm has samples, those beyond a run's `n` at 0."""
        grades = rng.beta(self.a, self.b, (len(n), int(n.max(initial=0))))
        if n.min(initial=0) != n.max(initial=0):
            grades[np.arange(grades.shape[1]) >= n[:, None]] = 0.0
        total, squares = grades.sum(axis=1), np.einsum("rs,rs->r", grades, grades)
        return Sums(n.astype(np.float64), factor * total, np.square(factor) * squares)

    def get_moments(self, factor: float = 1.0) -> tuple[float, float]:
        """Mean and variance of a Beta law, scaled."""
        both = self.a + self.b
        return factor * self.a / both, factor**2 * self.a * self.b / (both**2 * (both + 1))


THUMBS = Discrete((1.0,), (0.8,))
LAWS: dict[str, Law] = {
    "thumbs": THUMBS,
    "five-point": Discrete((1.0, 0.75, 0.5, 0.25), (0.55, 0.25, 0.10, 0.05)),
    "skewed": Discrete((0.98,), (0.97,)),
    "judge": Graded(4.888889, 1.222222),
}


def build_generator(name: str) -> Generator:
    """The stream of one cell: the same on every machine with the same numpy."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def build_reference(law: Law) -> Reference:
    """What stable's past says of this law."""
    mean, variance = law.get_moments()
    return Reference(mean, variance)


def fill(runs: int, n: int) -> Ints:
    """The same number of samples in every run."""
    return np.full(runs, n, dtype=np.int64)
