"""What a strategy would do at a given traffic, before anything moves: samples, times, and what cannot be decided. Pure.

The numbers are forecasts (docs/operations.md says how far off they were); the judge never reads them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dspy_operator.api.choices import MetricType, Mode
from dspy_operator.cli.views.units import age
from dspy_operator.rollout.judging import MetricConfig, Reference, RolloutConfig, StepConfig
from dspy_operator.rollout.judging.latency import FAST_MEAN, FAST_VARIANCE, find_latency_limits
from dspy_operator.rollout.judging.moments import LEAST_VARIANCE
from dspy_operator.rollout.judging.plan import LOOKS, Arms, find_samples_to_promote, find_samples_to_roll_back

PERCENT = 100.0
HEAVIEST = 95
"""Percent: above it stable's arm is too small to compare with."""

WORSE_TWICE = frozenset({MetricType.SCORE, MetricType.ERROR_RATE, MetricType.RATIO})
"""Metrics of which "worse by twice the margin" says how the samples fall."""


@dataclass(frozen=True)
class Conditions:
    """Per metric: samples a second of both revisions together, and what is known of stable's (else assumed)."""

    rates: Mapping[str, float]
    references: Mapping[str, Reference]


@dataclass(frozen=True)
class Worse:
    """A canary that is worse by twice the margin: after how many of its samples, and seconds, it is rolled back."""

    metric: str
    samples: float
    seconds: float


@dataclass(frozen=True)
class StepForecast:
    """One step for a canary as good as stable.

    `samples` of the canary and `seconds` until the gate opens (None: never), by the slowest metric; `deadline` in
    seconds; `troubles`: why the step cannot be decided within it, and what would do.
    """

    number: int
    weight: float
    samples: float | None
    slowest: str
    seconds: float | None
    deadline: float
    worse: tuple[Worse, ...]
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """The whole plan; `seconds` to the promotion without a person's delays, the bake included (None: undecided)."""

    steps: tuple[StepForecast, ...]
    bake: float
    seconds: float | None
    troubles: tuple[str, ...]

    @property
    def is_decidable(self) -> bool:
        """Whether every step can be decided within its deadline."""
        return not self.troubles and not any(step.troubles for step in self.steps)


def build_forecast(config: RolloutConfig, given: Conditions) -> Forecast:
    """What is to be expected of this configuration."""
    steps = tuple(_build_step(config, given, number) for number in range(1, len(config.judged_steps) + 1))
    times = [step.seconds for step in steps]
    known = [seconds for seconds in times if seconds is not None]
    total = sum(known) + config.bake if len(known) == len(times) else None
    return Forecast(steps, config.bake, total, tuple(_list_troubles(config, given)))


def _list_troubles(config: RolloutConfig, given: Conditions) -> Iterator[str]:
    """What no step can mend."""
    if not config.judged_steps:
        yield "no step lies below 100 %: nothing is compared before all traffic has moved"
    if not config.deciding:
        yield "no metric decides: all are dry runs"
    for metric in config.deciding:
        reference = given.references.get(metric.name)
        if metric.tolerance == 0:
            yield (
                f"{metric.name}: with tolerance 0 a canary near the margin is never decided: "
                "leave it out, or set it below the margin"
            )
        if metric.type is MetricType.SCORE and reference is not None and reference.mean <= 0:
            yield f"{metric.name}: stable's mean is 0, of which there is no relative drop"
        if metric.type is MetricType.LATENCY_P95 and reference is not None:
            limits = find_latency_limits(metric, reference)
            if limits is not None and not limits.is_measurable:
                yield (
                    f"{metric.name}: the histogram has no bound above the limit of "
                    f"{(1 + metric.margin) * limits.p95:.3g} s: slower cannot be seen"
                )


def _build_step(config: RolloutConfig, given: Conditions, number: int) -> StepForecast:
    step = config.judged_steps[number - 1]
    needed = {metric.name: _find_needed(config, given, number, metric) for metric in config.deciding}
    times = {name: _get_seconds(given, name, step.weight, samples) for name, samples in needed.items()}
    slowest = max(times, key=lambda name: times[name], default="")
    seconds = max(times.get(slowest, 0.0), step.min_duration)
    worse = [_find_worse(config, given, step, metric) for metric in config.deciding]
    return StepForecast(
        number=number,
        weight=step.weight,
        samples=needed.get(slowest),
        slowest=slowest,
        seconds=seconds if math.isfinite(seconds) else None,
        deadline=step.deadline_or_default,
        worse=tuple(one for one in worse if one is not None),
        troubles=tuple(
            _describe(config, given, number, metric)
            for metric in config.deciding
            if times[metric.name] > step.deadline_or_default
        ),
    )


def _find_needed(
    config: RolloutConfig, given: Conditions, number: int, metric: MetricConfig, weight: float | None = None
) -> float | None:
    """Canary samples until this metric lets the step's gate open, for a canary as good as stable; None: never."""
    step = config.judged_steps[number - 1]
    weight = step.weight if weight is None else weight
    required = float(max(step.min_samples, metric.min_samples))
    if number < len(config.judged_steps) or config.mode is Mode.THRESHOLD:
        return required
    forecast = find_samples_to_promote(config, metric, _build_arms(given, metric, weight))
    if forecast is None or _is_without_mean(given, metric):
        return None
    return max(required, forecast + _get_looks(config, given, metric, weight))


def _find_worse(
    config: RolloutConfig, given: Conditions, step: StepConfig, metric: MetricConfig
) -> Worse | None:
    if metric.type not in WORSE_TWICE or _is_without_mean(given, metric):
        return None
    if config.mode is Mode.THRESHOLD:
        samples: float | None = max(metric.min_samples, 1)
    else:
        samples = find_samples_to_roll_back(config, metric, _build_arms(given, metric, step.weight))
    if samples is None:
        return None
    samples += _get_looks(config, given, metric, step.weight)
    return Worse(metric.name, samples, _get_seconds(given, metric.name, step.weight, samples))


def _build_arms(given: Conditions, metric: MetricConfig, weight: float) -> Arms:
    share = weight / PERCENT
    if metric.type is MetricType.LATENCY_P95:
        return Arms(FAST_MEAN, FAST_VARIANCE, FAST_VARIANCE, share)
    reference = given.references.get(metric.name, Reference())
    variance = max(reference.variance, LEAST_VARIANCE)
    return Arms(reference.mean, variance, variance, share)


def _is_without_mean(given: Conditions, metric: MetricConfig) -> bool:
    reference = given.references.get(metric.name)
    return metric.type is MetricType.SCORE and reference is not None and reference.mean <= 0


def _get_looks(config: RolloutConfig, given: Conditions, metric: MetricConfig, weight: float) -> float:
    """Canary samples of the looks that any verdict takes beyond; at low traffic a look waits for its one sample."""
    return LOOKS * max(1.0, given.rates.get(metric.name, 0.0) * weight / PERCENT * config.interval)


def _get_seconds(given: Conditions, name: str, weight: float, samples: float | None) -> float:
    rate = given.rates.get(name, 0.0) * weight / PERCENT
    return math.inf if samples is None or rate <= 0 else samples / rate


def _describe(config: RolloutConfig, given: Conditions, number: int, metric: MetricConfig) -> str:
    """Why this metric cannot be decided in time, and what would do."""
    step = config.judged_steps[number - 1]
    within = f"cannot be decided within {age(step.deadline_or_default)}"
    if given.rates.get(metric.name, 0.0) <= 0:
        return f"{metric.name} {within}: no samples come"
    needed = _find_needed(config, given, number, metric)
    if needed is None:
        return f"{metric.name} {within}: no number of samples promotes it"
    canary_rate = given.rates[metric.name] * step.weight / PERCENT
    brought = canary_rate * step.deadline_or_default
    cures = [f"a deadline of {_round_up(needed / canary_rate)}"]
    weight = _find_weight(config, given, number, metric)
    cures += [f"a weight of {weight} %"] if weight is not None else []
    cures.append(f"{math.ceil(needed / brought * 10) / 10:g} times the traffic")
    return (
        f"{metric.name} {within}: it takes about {needed:.0f} samples of the canary, that time brings "
        f"{brought:.0f}. What would do: {', or '.join(cures)}. As it is, onDeadline {config.on_deadline} decides"
    )


def _find_weight(config: RolloutConfig, given: Conditions, number: int, metric: MetricConfig) -> int | None:
    """The least whole weight above the step's at which its deadline suffices."""
    step = config.judged_steps[number - 1]
    for weight in range(math.floor(step.weight) + 1, HEAVIEST + 1):
        needed = _find_needed(config, given, number, metric, weight)
        if _get_seconds(given, metric.name, weight, needed) <= step.deadline_or_default:
            return weight
    return None


def _round_up(seconds: float) -> str:
    """A deadline that a manifest can take: whole minutes below an hour, else whole hours."""
    unit, size = ("h", 3600) if seconds > 3600 else ("m", 60)  # noqa: PLR2004  an hour
    return f"{math.ceil(seconds / size)}{unit}"
