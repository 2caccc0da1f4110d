"""What a rollout is judged by: its steps, metrics and references.

Filled by the shell from a DSPyRollout's spec; read by every room of `judging`.
"""

import math
from dataclasses import dataclass

from dspy_operator.api.choices import Approval, MetricType, Mode, OnDeadline, OnMissing

DAY = 86_400.0
"""Seconds; the least deadline of a step that names none."""

DEFAULT_TOLERANCE = 0.6
"""The part of the margin on either side of it where both answers are right."""


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """One metric of the analysis.

    `margin` is `maxDrop` or `maxIncrease` as a fraction (5 % is 0.05), or `maxIncreasePoints` / 100;
    `tolerance` is in the same unit and 0.6 of the margin where None. `min` and `max` are absolute: a mean
    score, a share, US dollars a request, or seconds (LatencyP95).

    Raises:
        ValueError: where a number makes no test, or a cost metric would decide.
    """

    name: str
    type: MetricType
    margin: float
    tolerance: float | None = None
    min_samples: int = 50
    dry_run: bool = False
    min: float | None = None
    max: float | None = None
    on_missing: OnMissing = OnMissing.HOLD

    def __post_init__(self) -> None:
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(
                f"metric {self.name}: the margin must be a number of at least 0, not {self.margin}"
            )
        if self.tolerance is not None and not 0 <= self.tolerance <= self.margin:
            raise ValueError(
                f"metric {self.name}: the tolerance must lie between 0 and the margin {self.margin}"
            )
        if self.type is MetricType.SCORE and self.margin > 1:
            raise ValueError(f"metric {self.name}: a score cannot drop by more than 100 %")
        if self.type is MetricType.COST_PER_REQUEST and not self.dry_run:
            raise ValueError(f"metric {self.name}: CostPerRequest is reported only, set dryRun: true")

    @property
    def lower(self) -> float:
        """The margin less the tolerance (d0, a0): a canary no worse than this is good."""
        return self.margin - self._get_tolerance()

    @property
    def upper(self) -> float:
        """The margin plus the tolerance (d1, a1): a canary at least this much worse is bad."""
        return self.margin + self._get_tolerance()

    @property
    def is_relative(self) -> bool:
        """Whether the margin is a part of stable's mean, not points."""
        return self.type is MetricType.SCORE

    def _get_tolerance(self) -> float:
        return DEFAULT_TOLERANCE * self.margin if self.tolerance is None else self.tolerance


@dataclass(frozen=True, slots=True)
class StepConfig:
    """One step: `weight` in percent, times in seconds, `min_samples` beside each metric's own."""

    weight: float
    min_duration: float = 0.0
    min_samples: int = 0
    deadline: float | None = None
    approval: Approval = Approval.AUTO

    @property
    def deadline_or_default(self) -> float:
        """Seconds from the weight taking effect; a day or twice `min_duration` where none is given."""
        return max(DAY, 2 * self.min_duration) if self.deadline is None else self.deadline


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """The whole analysis.

    `alpha` = 1 - confidence bounds both errors, `interval` is the time between looks, `bake` the watch after
    100 %, both in seconds; `is_sticky` says that users, not requests, are split (`traffic.userHeader`).

    Raises:
        ValueError: if alpha is no probability, or two metrics share a name.
    """

    steps: tuple[StepConfig, ...]
    metrics: tuple[MetricConfig, ...]
    alpha: float = 0.05
    interval: float = 30.0
    mode: Mode = Mode.EVIDENCE
    on_deadline: OnDeadline = OnDeadline.THRESHOLD
    bake: float = 0.0
    is_sticky: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {self.alpha}")
        if len({metric.name for metric in self.metrics}) != len(self.metrics):
            raise ValueError("two metrics have the same name")

    @property
    def judged_steps(self) -> tuple[StepConfig, ...]:
        """The steps below 100 %, where both arms get traffic."""
        return tuple(step for step in self.steps if step.weight < 100)  # noqa: PLR2004  percent

    @property
    def row_count(self) -> int:
        """J: rows of rollback evidence, one a judged step and one for the bake."""
        return len(self.judged_steps) + (1 if self.bake > 0 else 0)

    @property
    def deciding(self) -> tuple[MetricConfig, ...]:
        """The metrics that decide: all but the dry runs."""
        return tuple(metric for metric in self.metrics if not metric.dry_run)


@dataclass(frozen=True, slots=True)
class Reference:
    """What stable's past says of one metric, frozen when the rollout starts; any value keeps the guarantees.

    `mean` and `variance` are of the score, or of success (1 - share of bad) for ErrorRate and Ratio;
    LatencyP95 reads `p95` in seconds and `bounds`, the histogram's finite upper bounds. Without a `p95` the
    looks' `bad` is taken as counted above the right bounds already (offline use). The weights are
    pseudo-counts; `source` names the series that was read.
    """

    mean: float = 0.5
    variance: float = 0.25
    p95: float | None = None
    bounds: tuple[float, ...] = ()
    canary_weight: float = 20.0
    stable_weight: float = 200.0
    source: str | None = None


UNKNOWN_REFERENCE = Reference(canary_weight=1.0, stable_weight=1.0)
"""The weakest prior: for offline looks that come without a `reference` line."""
