"""Decision rules side by side on one stream of looks: the literal ones and the sequential test."""

import math
from typing import Protocol

from dspy_operator.rollout.judging import (
    Counts,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
)
from dspy_operator.rollout.judging.measuring import build_measured, build_metric_start, build_metric_step
from dspy_operator.rollout.judging.readings import get_ln_e_promote, get_ln_e_rollback

MARGIN = 0.05
SCORE = MetricConfig("score", MetricType.SCORE, margin=MARGIN)
FIRES = math.log(20)


class Rule(Protocol):
    """Takes looks one by one, answers True when it rolls back; `promotes` is its other answer."""

    promotes: bool

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether the rule rolls back after this look."""
        ...


def get_drop(canary: Counts, stable: Counts) -> float:
    return 1 - (canary.sum / canary.n) / (stable.sum / stable.n) if stable.sum > 0 else 0.0


class Literal:
    """More than 5 % below on all samples so far, from 20 canary samples on."""

    promotes = False

    def __init__(self) -> None:
        self.canary, self.stable = Counts(), Counts()

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether it rolls back after this look."""
        self.canary, self.stable = self.canary + canary, self.stable + stable
        return get_drop(self.canary, self.stable) > MARGIN


class LastLook:
    """More than 5 % below on the last look alone."""

    promotes = False

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether this look alone says so."""
        return get_drop(canary, stable) > MARGIN


class FailureLimit:
    """Argo Rollouts' rule: more than three failed measurements in all."""

    promotes = False

    def __init__(self, limit: int = 3) -> None:
        self.failures, self.limit = 0, limit

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether it rolls back after this look."""
        self.failures += get_drop(canary, stable) > MARGIN
        return self.failures > self.limit


class InARow:
    """Three failed measurements in a row."""

    promotes = False

    def __init__(self, count: int = 3) -> None:
        self.run, self.count = 0, count

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether it rolls back after this look."""
        self.run = self.run + 1 if get_drop(canary, stable) > MARGIN else 0
        return self.run >= self.count


class Sequential:
    """The judge of this operator, one row."""

    def __init__(self, reference: Reference) -> None:
        self.config = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=(SCORE,))
        self.memory = build_metric_step(SCORE, build_metric_start(SCORE, reference), 1)
        self.promotes, self.looks = False, 0

    def is_rolled_back(self, canary: Counts, stable: Counts) -> bool:
        """Whether it rolls back after this look."""
        self.looks += 1
        self.memory = build_measured(SCORE, self.memory, 30.0 * self.looks, (canary, stable))
        self.promotes = get_ln_e_promote(self.memory) >= FIRES
        return get_ln_e_rollback(self.config, SCORE, self.memory) >= FIRES


def build_rules(reference: Reference) -> dict[str, Rule]:
    return {
        "literal": Literal(),
        "last look": LastLook(),
        "failureLimit 3": FailureLimit(),
        "3 in a row": InARow(),
        "sequential": Sequential(reference),
    }
