"""The defaults that the operator applies: a user's strategy in, the whole frozen strategy of one attempt out.

The table of defaults is here and in the descriptions of the fields; a test holds both equal.
"""

from datetime import timedelta
from decimal import Decimal
from typing import Final, TypeVar

from dspy_operator.api.choices import (
    Approval,
    Approximation,
    MetricType,
    Mode,
    OnDeadline,
    OnMissing,
    Router,
)
from dspy_operator.api.metric import MetricSpec, ScoreChoice
from dspy_operator.api.quantities import (
    format_percent,
    format_points,
    parse_duration,
    parse_percent,
    parse_points,
)
from dspy_operator.api.rollout import (
    FilledAnalysis,
    FilledMetric,
    FilledPreview,
    FilledRegression,
    FilledStep,
    FilledStrategy,
    FilledTraffic,
)
from dspy_operator.api.spec import DeploymentSpec, Traffic
from dspy_operator.api.strategy import Analysis, BlueGreen, Canary, Step, Strategy

INTERVAL: Final = parse_duration("30s")
CONFIDENCE: Final = Decimal("0.95")
BAKE: Final = parse_duration("30m")
READY_DEADLINE: Final = parse_duration("10m")
PREVIEW: Final = parse_duration("5m")
LM_TIMEOUT: Final = parse_duration("30s")
GATE_MAX_DROP: Final = parse_percent("2%")
GATE_DEADLINE: Final = parse_duration("30m")
ROLLBACK_WINDOW: Final = 3
REVISION_HISTORY_LIMIT: Final = 10
METRIC_MIN_SAMPLES: Final = 50
TOLERANCE_SHARE: Final = Decimal("0.6")
LEAST_DEADLINE: Final = parse_duration("24h")
MARGINS: Final = {
    MetricType.SCORE: parse_percent("5%"),
    MetricType.LATENCY_P95: parse_percent("20%"),
    MetricType.ERROR_RATE: parse_points("1"),
    MetricType.RATIO: parse_points("1"),
    MetricType.COST_PER_REQUEST: parse_percent("30%"),
}
STEPS: Final = (
    Step(weight=10, min_duration=parse_duration("1h"), min_samples=100, deadline=parse_duration("72h")),
    Step(weight=50, min_duration=parse_duration("1h"), deadline=parse_duration("24h")),
    Step(weight=100),
)
SCORE: Final = MetricSpec(name="score", type=MetricType.SCORE)
LATENCY: Final = MetricSpec(name="latency", type=MetricType.LATENCY_P95)
ERRORS: Final = MetricSpec(name="errors", type=MetricType.ERROR_RATE)
_NO_TIME: Final = timedelta(0)
_WHOLE: Final = 100
T = TypeVar("T")


def strategy_with_defaults(spec: DeploymentSpec, *, feedback_scores: bool = False) -> FilledStrategy:
    """The strategy of an attempt that opens now, everything filled in.

    `feedback_scores`: whether stable had 20 feedback scores in 24 h, so that a default score metric has data.
    """
    chosen = _get_chosen(spec)
    return FilledStrategy(
        steps=list(steps_with_defaults(spec)),
        analysis=analysis_with_defaults(spec, feedback_scores=feedback_scores),
        bake=_given(chosen.bake, BAKE),
        ready_deadline=_given(chosen.ready_deadline, READY_DEADLINE),
        preview=_fill_preview(chosen) if isinstance(chosen, BlueGreen) else None,
    )


def _fill_preview(chosen: BlueGreen) -> FilledPreview:
    return FilledPreview(
        duration=_given(chosen.preview_duration, PREVIEW), auto_promote=chosen.auto_promote is not False
    )


def traffic_with_defaults(spec: DeploymentSpec) -> FilledTraffic:
    """How a canary with pods of its own gets its share in an attempt that opens now."""
    traffic = spec.traffic or Traffic()
    return FilledTraffic(
        router=Router.GATEWAY if traffic.gateway else Router.REPLICAS,
        canary_replicas=traffic.canary_replicas,
        approximation=traffic.approximation or Approximation.REFUSE,
    )


def regression_with_defaults(spec: DeploymentSpec) -> FilledRegression | None:
    """The gate before any traffic of an attempt that opens now; None without `spec.regression`."""
    asked = spec.regression
    if asked is None:
        return None
    return FilledRegression(
        dataset=asked.dataset,
        metric=asked.metric,
        max_drop=_given(asked.max_drop, GATE_MAX_DROP),
        min_score=asked.min_score,
        deadline=_given(asked.deadline, GATE_DEADLINE),
    )


def steps_with_defaults(spec: DeploymentSpec) -> tuple[FilledStep, ...]:
    """The steps; without a deadline a step gets max(24h, 2 x minDuration)."""
    chosen = _get_chosen(spec)
    if isinstance(chosen, BlueGreen):
        return (_fill_step(STEPS[-1]),)
    return tuple(_fill_step(step) for step in chosen.steps or STEPS)


def analysis_with_defaults(spec: DeploymentSpec, *, feedback_scores: bool = False) -> FilledAnalysis:
    """The analysis; score is among the default metrics only if something scores answers."""
    analysis = _get_chosen(spec).analysis or Analysis()
    metrics = analysis.metrics or list_default_metrics(spec, feedback_scores=feedback_scores)
    return FilledAnalysis(
        interval=_given(analysis.interval, INTERVAL),
        mode=analysis.mode or Mode.EVIDENCE,
        confidence=_given(analysis.confidence, CONFIDENCE),
        on_deadline=analysis.on_deadline or OnDeadline.THRESHOLD,
        metrics=[_fill_metric(metric) for metric in metrics],
    )


def list_default_metrics(spec: DeploymentSpec, *, feedback_scores: bool) -> list[MetricSpec]:
    """Latency and errors, and the score if a function or judge is configured or feedback comes in."""
    return [SCORE, LATENCY, ERRORS] if feedback_scores or has_score_source(spec) else [LATENCY, ERRORS]


def has_score_source(spec: DeploymentSpec) -> bool:
    """Whether the spec itself says who scores answers."""
    if spec.scoring is None:
        return False
    judge = spec.scoring.judge
    return bool(spec.scoring.function or (judge and (judge.module or judge.lm)))


def lm_timeout(spec: DeploymentSpec) -> timedelta:
    """The deadline of a whole request."""
    return _given(spec.lm.timeout, LM_TIMEOUT)


def rollback_window(spec: DeploymentSpec) -> int:
    """How many promoted revisions one can go back to quickly."""
    window = spec.strategy.rollback_window if spec.strategy else None
    return _given(window.revisions if window else None, ROLLBACK_WINDOW)


def revision_history_limit(spec: DeploymentSpec) -> int:
    """How many attempts and archived programs are kept."""
    return _given(spec.revision_history_limit, REVISION_HISTORY_LIMIT)


def _get_chosen(spec: DeploymentSpec) -> Canary | BlueGreen:
    strategy = spec.strategy or Strategy()
    return strategy.blue_green or strategy.canary or Canary()


def _fill_step(step: Step) -> FilledStep:
    is_last = step.weight == _WHOLE
    least = _given(step.min_duration, _NO_TIME)
    return FilledStep(
        weight=step.weight,
        min_duration=least,
        min_samples=step.min_samples or 0,
        deadline=_NO_TIME if is_last else _given(step.deadline, max(LEAST_DEADLINE, 2 * least)),
        approval=step.approval or Approval.AUTO,
    )


def _fill_metric(metric: MetricSpec) -> FilledMetric:
    given = metric.model_dump(exclude_none=True)
    margin = _given(metric.margin, MARGINS[metric.type])
    match metric.type:
        case MetricType.SCORE:
            given |= {"max_drop": margin, "source": metric.source or ScoreChoice.AUTO}
            given.setdefault("tolerance", format_percent(TOLERANCE_SHARE * margin))
        case MetricType.ERROR_RATE | MetricType.RATIO:
            given |= {"max_increase_points": margin}
            given.setdefault("tolerance", format_points(TOLERANCE_SHARE * margin))
        case MetricType.LATENCY_P95 | MetricType.COST_PER_REQUEST:
            given |= {"max_increase": margin}
    filled = {"min_samples": METRIC_MIN_SAMPLES, "on_missing": OnMissing.HOLD, "dry_run": False}
    return FilledMetric(**(filled | given))


def _given(value: T | None, default: T) -> T:
    return default if value is None else value
