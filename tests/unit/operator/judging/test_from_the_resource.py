"""What a user writes in a DSPyDeployment is what the judge goes by, to the last number."""

from tests.unit.operator.api.examples import changed, minimal, whole

from dspy_operator.api.choices import Approval, MetricType, Mode, OnDeadline, OnMissing
from dspy_operator.api.defaults import strategy_with_defaults
from dspy_operator.api.spec import parse_deployment
from dspy_operator.rollout.judging import MetricConfig, RolloutConfig, StepConfig
from dspy_operator.rollout.plan import build_config

STRATEGY = ("spec", "strategy", "canary")
HOUR = 3600.0


def config_of(resource: dict[str, object], *, is_sticky: bool = False) -> RolloutConfig:
    return build_config(strategy_with_defaults(parse_deployment(resource).spec), is_sticky=is_sticky)


def test_the_complete_example_becomes_this_test() -> None:
    config = config_of(whole(), is_sticky=True)
    assert config == RolloutConfig(
        steps=(
            StepConfig(10, 24 * HOUR, 100, 72 * HOUR, Approval.AUTO),
            StepConfig(50, HOUR, 0, 24 * HOUR, Approval.MANUAL),
            StepConfig(100, 0, 0, None, Approval.AUTO),
        ),
        metrics=(
            MetricConfig("score", MetricType.SCORE, 0.05, 0.03, 50, min=0.7),
            MetricConfig("latency", MetricType.LATENCY_P95, 0.2, max=10.0),
            MetricConfig("errors", MetricType.ERROR_RATE, 0.01, 0.006, max=0.05),
            MetricConfig("refusals", MetricType.RATIO, 0.01, 0.006),
            MetricConfig("cost", MetricType.COST_PER_REQUEST, 0.3, dry_run=True),
        ),
        alpha=0.05,
        interval=30.0,
        mode=Mode.EVIDENCE,
        on_deadline=OnDeadline.THRESHOLD,
        bake=1800.0,
        is_sticky=True,
    )


def test_confidence_tolerance_and_the_rest_follow_the_resource() -> None:
    score = {
        "name": "score",
        "type": "Score",
        "maxDrop": "10%",
        "tolerance": "0%",
        "minSamples": 7,
        "onMissing": "Skip",
        "max": "0.95",
    }
    errors = {
        "name": "errors",
        "type": "ErrorRate",
        "maxIncreasePoints": "2",
        "tolerance": "0.5",
        "dryRun": True,
    }
    analysis = {
        "interval": "10s",
        "mode": "Threshold",
        "confidence": "0.999",
        "onDeadline": "Rollback",
        "metrics": [score, errors],
    }
    resource = changed(minimal(), ".".join((*STRATEGY, "analysis")), analysis)
    config = config_of(resource)
    assert (config.alpha, config.interval) == (0.001, 10.0)
    assert (config.mode, config.on_deadline) == (Mode.THRESHOLD, OnDeadline.ROLLBACK)
    first, second = config.metrics
    assert (first.lower, first.upper, first.min_samples) == (0.1, 0.1, 7)
    assert (first.on_missing, first.min, first.max) == (OnMissing.SKIP, None, 0.95)
    assert (second.lower, second.upper, second.dry_run) == (0.015, 0.025, True)
    assert config.deciding == (first,)
