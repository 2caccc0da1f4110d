"""CostPerRequest: a sign test on blocks of requests, reported and never deciding.

A sum of costs has no bound and no Σx², so only "was the canary dearer in this block?" is counted.
Approximate, not proven.
"""

import math

BLOCK = 20.0
"""Requests that each arm needs before a block is compared."""

NULL = 0.6
SHARES = (0.75, 0.9, 0.97)


def is_dearer(
    canary_cost: float, canary_n: float, stable_cost: float, stable_n: float, margin: float
) -> bool:
    """Whether a canary request cost more than (1 + margin) stable ones in this block."""
    return canary_cost / canary_n > (1 + margin) * stable_cost / stable_n


def list_gains(*, hit: bool) -> list[float]:
    """What one block adds to ln E of each component."""
    return [math.log(q / NULL) if hit else math.log((1 - q) / (1 - NULL)) for q in SHARES]
