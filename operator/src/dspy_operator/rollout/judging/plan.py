"""How many samples a decision takes: Wald's bound with measured factors.

Used for `samplesNeeded` in status and by `kubectl dspy plan`; a forecast, never a rule.
"""

import math
from dataclasses import dataclass

from dspy_operator.rollout.judging.config import MetricConfig, RolloutConfig
from dspy_operator.rollout.judging.engine import Null
from dspy_operator.rollout.judging.measuring import get_nulls

LOOKS = 2
"""Looks that any verdict takes beyond its samples, because of the cap."""

PROMOTE_FACTOR = 1.2
ROLLBACK_COMPONENTS = 4
PROMOTE_COMPONENTS = 2


@dataclass(frozen=True, slots=True)
class Arms:
    """What is assumed of both arms; `share`: the canary's part of the traffic, 0 < share < 1."""

    stable_mean: float
    canary_variance: float
    stable_variance: float
    share: float


def find_samples_to_promote(
    config: RolloutConfig, metric: MetricConfig, arms: Arms, drop: float = 0.0
) -> float | None:
    """Canary samples in the last step until evidence promotes, before `LOOKS`; None: never."""
    _, null = get_nulls(metric)
    distance = -_get_distance(metric, null, arms.stable_mean, drop)
    if distance <= 0:
        return None
    information = _get_information(null, arms, distance, arms.canary_variance)
    return PROMOTE_FACTOR * (-math.log(config.alpha) + math.log(PROMOTE_COMPONENTS)) / information


def find_samples_to_roll_back(
    config: RolloutConfig, metric: MetricConfig, arms: Arms, drop: float | None = None
) -> float | None:
    """Canary samples until evidence rolls back a canary worse by `drop` (None: twice the margin); None: never."""
    null, _ = get_nulls(metric)
    distance = _get_distance(metric, null, arms.stable_mean, 2 * metric.margin if drop is None else drop)
    if distance <= 0:
        return None
    # A fall to zeros raises the variance.
    information = _get_information(null, arms, distance, arms.canary_variance + distance * arms.stable_mean)
    cells = ROLLBACK_COMPONENTS * max(1, config.row_count) * max(1, len(config.deciding))
    return (-math.log(config.alpha) + math.log(cells)) / information


def _get_distance(metric: MetricConfig, null: Null, stable_mean: float, drop: float) -> float:
    """How far the canary's mean lies below the null's; negative: above."""
    canary_mean = stable_mean * (1 - drop) if metric.is_relative else stable_mean - drop
    return null.ratio * stable_mean - null.margin - canary_mean


def _get_information(null: Null, arms: Arms, distance: float, canary_variance: float) -> float:
    odds = arms.share / (1 - arms.share)
    return distance**2 / (2 * (canary_variance + null.ratio**2 * odds * arms.stable_variance))
