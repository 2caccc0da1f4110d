"""What each metric's memory says now, as plain facts for the rules.

Built once a look by `sequence`; `rules` decides on them, `wording` says them.
"""

import math
from dataclasses import dataclass

from dspy_operator.api.choices import MetricType, OnMissing
from dspy_operator.rollout.judging.config import MetricConfig, RolloutConfig
from dspy_operator.rollout.judging.engine import get_ln_mean_exp
from dspy_operator.rollout.judging.estimates import find_drop, is_beyond_limits, is_beyond_margin
from dspy_operator.rollout.judging.measuring import get_rollback_width
from dspy_operator.rollout.judging.state import MetricState, State


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric's facts. `is_skipped`: left out of gate and deadline (`onMissing: Skip` and no sample)."""

    metric: MetricConfig
    memory: MetricState
    drop: float | None
    required: int
    ln_e_rollback: float
    ln_e_promote: float
    is_measured: bool
    is_skipped: bool
    is_violated: bool
    is_beyond_limits: bool

    @property
    def is_short(self) -> bool:
        """Fewer canary samples in the step than asked for."""
        return self.memory.step.canary_n < self.required


def list_readings(state: State) -> list[Reading]:
    """One reading a metric, in the order of the configuration."""
    return [
        _build_reading(state, metric, memory)
        for metric, memory in zip(state.config.metrics, state.metrics, strict=True)
    ]


def list_deciding(readings: list[Reading]) -> list[Reading]:
    """Those that count in gate and deadline."""
    return [reading for reading in readings if not reading.metric.dry_run and not reading.is_skipped]


def get_rollout_ln_e(readings: list[Reading]) -> float:
    """Ln of the mean of E_R over the deciding metrics, skipped ones too; 0 where none decides."""
    return get_ln_mean_exp([[reading.ln_e_rollback] for reading in readings if not reading.metric.dry_run])


def _build_reading(state: State, metric: MetricConfig, memory: MetricState) -> Reading:
    drop = find_drop(metric, memory.step)
    return Reading(
        metric=metric,
        memory=memory,
        drop=drop,
        required=_get_required(state, metric),
        ln_e_rollback=get_ln_e_rollback(state.config, metric, memory),
        ln_e_promote=get_ln_e_promote(memory),
        is_measured=drop is not None,
        is_skipped=metric.on_missing is OnMissing.SKIP and not memory.step.seen and memory.step.canary_n == 0,
        is_violated=is_beyond_margin(metric, memory.step),
        is_beyond_limits=is_beyond_limits(metric, memory.step),
    )


def get_ln_e_rollback(config: RolloutConfig, metric: MetricConfig, memory: MetricState) -> float:
    """Ln E_R over all rows, those not started counting 1; a latency's lesser of both tests."""
    missing = max(0, config.row_count - len(memory.rows))
    relative = get_ln_mean_exp(memory.rows, missing * get_rollback_width(metric))
    if metric.type is not MetricType.LATENCY_P95:
        return relative
    width = len(memory.absolute_rows[0]) if memory.absolute_rows else 1
    return min(relative, get_ln_mean_exp(memory.absolute_rows, missing * width))


def get_ln_e_promote(memory: MetricState) -> float:
    """Ln E_P of this step; a latency's mean of both tests."""
    relative = get_ln_mean_exp([memory.promote])
    if not memory.absolute_promote:
        return relative
    absolute = get_ln_mean_exp([memory.absolute_promote])
    highest = max(relative, absolute)
    return highest + math.log((math.exp(relative - highest) + math.exp(absolute - highest)) / 2)


def _get_required(state: State, metric: MetricConfig) -> int:
    if state.is_baking or not 0 < state.step <= len(state.config.judged_steps):
        return metric.min_samples
    return max(metric.min_samples, state.config.judged_steps[state.step - 1].min_samples)
