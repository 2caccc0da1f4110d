"""The frozen strategy of a DSPyRollout's spec, as decisions and the judge read it."""

from typing import Final

from dspy_operator.api.choices import Approval, Approximation, MetricType, Router
from dspy_operator.api.rollout import (
    FilledMetric,
    FilledPreview,
    FilledStep,
    FilledStrategy,
    FilledTraffic,
    RolloutSpec,
)
from dspy_operator.rollout.judging import MetricConfig, RolloutConfig, StepConfig
from dspy_operator.rollout.model import Plan
from dspy_operator.rollout.strategy import Preview, Routing


def build_plan(spec: RolloutSpec) -> Plan:
    """The plan of one attempt.

    Raises:
        ValueError: numbers that make no test.
    """
    strategy, traffic = spec.strategy, spec.traffic or _SHARED
    return Plan(
        weights=tuple(step.weight for step in strategy.steps),
        manual=tuple(step.approval is Approval.MANUAL for step in strategy.steps),
        bake=strategy.bake.total_seconds(),
        ready_deadline=strategy.ready_deadline.total_seconds(),
        config=build_config(strategy, is_sticky=bool(spec.user_header)),
        series={m.name: m.series for m in strategy.analysis.metrics if m.series},
        gate_deadline=spec.regression.deadline.total_seconds() if spec.regression else None,
        sources={m.name: m.source.value for m in strategy.analysis.metrics if m.source},
        preview=_build_preview(strategy.preview),
        routing=build_routing(traffic),
    )


def build_routing(traffic: FilledTraffic) -> Routing:
    """How own pods of the canary get their share."""
    return Routing(traffic.router, traffic.canary_replicas, traffic.approximation)


def _build_preview(preview: FilledPreview | None) -> Preview | None:
    return Preview(preview.duration.total_seconds(), preview.auto_promote) if preview else None


_SHARED: Final = FilledTraffic(router=Router.REPLICAS, approximation=Approximation.REFUSE)
"""Of an attempt in shared pods, which asks for none of it."""


def build_config(strategy: FilledStrategy, *, is_sticky: bool) -> RolloutConfig:
    """What the judge goes by; `is_sticky`: users, not requests, are split.

    Raises:
        ValueError: numbers that make no test.
    """
    return RolloutConfig(
        steps=tuple(_build_step(step) for step in strategy.steps),
        metrics=tuple(_build_metric(metric) for metric in strategy.analysis.metrics),
        alpha=round(1 - float(strategy.analysis.confidence), 9),
        interval=strategy.analysis.interval.total_seconds(),
        mode=strategy.analysis.mode,
        on_deadline=strategy.analysis.on_deadline,
        bake=strategy.bake.total_seconds(),
        is_sticky=is_sticky,
    )


def _build_step(step: FilledStep) -> StepConfig:
    return StepConfig(
        weight=step.weight,
        min_duration=step.min_duration.total_seconds(),
        min_samples=step.min_samples,
        deadline=step.deadline.total_seconds() or None,
        approval=step.approval,
    )


def _build_metric(metric: FilledMetric) -> MetricConfig:
    tolerance, floor, ceiling = metric.tolerance_fraction, metric.floor, metric.ceiling
    relative = metric.type in {MetricType.SCORE, MetricType.ERROR_RATE, MetricType.RATIO}
    return MetricConfig(
        name=metric.name,
        type=metric.type,
        margin=float(metric.margin or 0),
        tolerance=float(tolerance) if tolerance is not None and relative else None,
        min_samples=metric.min_samples,
        dry_run=metric.dry_run,
        min=None if floor is None else float(floor),
        max=None if ceiling is None else float(ceiling),
        on_missing=metric.on_missing,
    )
