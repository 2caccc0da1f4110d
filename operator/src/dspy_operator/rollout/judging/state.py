"""The test's memory between looks: all that a verdict depends on besides the next look.

Built by `sequence` and `measuring`, stored as JSON in DSPyRollout.status.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dspy_operator.rollout.judging.codec import Json, decode, encode
from dspy_operator.rollout.judging.config import Reference, RolloutConfig
from dspy_operator.rollout.judging.dispersion import NO_DISPERSION, Dispersion
from dspy_operator.rollout.judging.latency import LatencyLimits
from dspy_operator.rollout.judging.looks import NO_COUNTS, Counts, Histogram
from dspy_operator.rollout.judging.moments import NO_MOMENTS, Moments
from dspy_operator.rollout.judging.sample_ratio import NO_RATIO_EVIDENCE

VERSION = 2

Cells = tuple[float, ...]
"""Ln E of each component of one row."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """One metric's consumed samples of the step, and the paired sums behind its estimate.

    `canary_sum`, `stable_sum`: Σ of scores, of good requests, or US dollars; `over`: canary requests above
    the bound of `max`; `paired_*`: Σ S_c·n_s/(n_c+n_s), Σ S_s·n_c/(n_c+n_s), Σ n_c·n_s/(n_c+n_s). `seen`: any
    sample of the canary, even one that could not be judged.
    """

    looks: int = 0
    canary_n: float = 0.0
    stable_n: float = 0.0
    canary_sum: float = 0.0
    stable_sum: float = 0.0
    over: float = 0.0
    paired_canary: float = 0.0
    paired_stable: float = 0.0
    paired_n: float = 0.0
    seen: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """Increments that wait, since `t`, for the other arm's samples."""

    t: float
    canary: Counts
    stable: Counts


@dataclass(frozen=True, slots=True)
class Baseline:
    """Stable's samples while its past is unknown: until there are enough to freeze a reference."""

    sums: Moments = NO_MOMENTS
    histogram: Histogram = ()


@dataclass(frozen=True, slots=True)
class MetricState:
    """One metric. `reference` None: stable's past is not known yet, `baseline` collects it.

    `rows` of test R (started ones), `promote` of test P; `absolute_*` the same of a latency's absolute test;
    `canary` and `stable` are running sums with the prior; `block` are the costs of a block that is not full;
    `frozen_mean` is stable's mean since promotion; `scored` are the step's scores of (canary, stable), consumed or not.
    """

    reference: Reference | None = None
    limits: LatencyLimits | None = None
    baseline: Baseline = Baseline()
    canary: Moments = NO_MOMENTS
    stable: Moments = NO_MOMENTS
    rows: tuple[Cells, ...] = ()
    promote: Cells = ()
    absolute_rows: tuple[Cells, ...] = ()
    absolute_promote: Cells = ()
    dispersion: Dispersion = NO_DISPERSION
    block: tuple[Counts, Counts] = (NO_COUNTS, NO_COUNTS)
    step: StepTotals = StepTotals()
    carried: tuple[Carried, ...] = ()
    frozen_mean: float | None = None
    scored: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Clock:
    """Times of the step, Unix seconds, and durations in seconds.

    `last`: the last look or entry; `started`: the deadline's clock; `waited`: of it in AwaitingPromotion;
    `observed`: dwell.
    """

    last: float
    started: float
    waited: float = 0.0
    observed: float = 0.0
    is_waiting: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """The whole memory. `step` from 1; J + 1 in bake, 0 where nothing is judged before it.

    `provider_outage`: what the last look said of (canary, stable), for the next look. `successes` and `fallbacks`
    are the step's sums of what its looks said.
    """

    config: RolloutConfig
    clock: Clock
    step: int
    is_baking: bool
    metrics: tuple[MetricState, ...]
    provider_outage: tuple[bool, bool] = (False, False)
    ratio_evidence: tuple[float, ...] = NO_RATIO_EVIDENCE
    ratio_counts: tuple[float, float] = (0.0, 0.0)
    share: float = 0.0
    successes: tuple[float, float] = (0.0, 0.0)
    fallbacks: float = 0.0

    @property
    def is_last_step(self) -> bool:
        """Whether the next gate promotes."""
        return self.step >= len(self.config.judged_steps)

    def find_latency_limits(self, name: str) -> LatencyLimits | None:
        """The frozen bounds that looks must count above; None: not frozen, send the histogram."""
        return self._get_metric(name).limits

    def find_reference(self, name: str) -> Reference | None:
        """The frozen reference of a metric, None until stable has enough samples."""
        return self._get_metric(name).reference

    def to_json(self) -> dict[str, Json]:
        """Plain JSON values, lossless."""
        return {"version": VERSION, "state": encode(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> "State":
        """The state that `to_json` gave.

        Raises:
            ValueError: if the value is no state of this version or the one before.
        """
        match value:
            case {"version": 1, "state": [*_] as state}:
                return decode(cls, _build_second(state))
            case {"version": 2, "state": state}:
                return decode(cls, state)
            case _:
                raise ValueError(f"a judge's state of version {value.get('version')}, expected {VERSION}")

    def _get_metric(self, name: str) -> MetricState:
        for metric, memory in zip(self.config.metrics, self.metrics, strict=True):
            if metric.name == name:
                return memory
        raise KeyError(f"no metric {name} in this rollout")


def _build_second(first: list[Json]) -> list[Json]:
    """An encoded state of version 1 with what it lacks: nothing was counted yet."""
    match first:
        case [config, clock, step, is_baking, [*metrics], *rest]:
            counted: list[Json] = [[*metric, [0, 0]] for metric in metrics if isinstance(metric, list)]
            return [config, clock, step, is_baking, counted, *rest, [0, 0], 0]
        case _:
            raise ValueError("a judge's state without metrics")
