"""The table of defaults, applied; and the same values in the descriptions that users read."""

import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from tests.unit.operator.api.examples import changed, minimal, whole

from dspy_operator.api import defaults
from dspy_operator.api.choices import Approval, MetricType, Mode, OnDeadline, OnMissing
from dspy_operator.api.crd import build_crds
from dspy_operator.api.metric import ScoreChoice
from dspy_operator.api.quantities import format_duration, parse_duration
from dspy_operator.api.spec import DeploymentSpec, parse_deployment


def spec_of(resource: dict[str, object]) -> DeploymentSpec:
    return parse_deployment(resource).spec


def test_the_minimal_resource_gets_the_whole_default_strategy() -> None:
    strategy = defaults.strategy_with_defaults(spec_of(minimal()))
    steps = [(s.weight, format_duration(s.min_duration), s.min_samples, s.deadline) for s in strategy.steps]
    assert steps == [
        (10, "1h", 100, parse_duration("72h")),
        (50, "1h", 0, parse_duration("24h")),
        (100, "0s", 0, parse_duration("0s")),
    ]
    assert strategy.bake == parse_duration("30m")
    assert strategy.ready_deadline == parse_duration("10m")
    assert strategy.analysis.interval == parse_duration("30s")
    assert strategy.analysis.confidence == Decimal("0.95")
    assert (strategy.analysis.mode, strategy.analysis.on_deadline) == (Mode.EVIDENCE, OnDeadline.THRESHOLD)


def test_the_default_metrics_are_score_latency_and_errors() -> None:
    metrics = defaults.analysis_with_defaults(spec_of(minimal())).metrics
    assert [(m.type, m.margin, m.tolerance_fraction, m.min_samples) for m in metrics] == [
        (MetricType.SCORE, Decimal("0.05"), Decimal("0.03"), 50),
        (MetricType.LATENCY_P95, Decimal("0.2"), None, 50),
        (MetricType.ERROR_RATE, Decimal("0.01"), Decimal("0.006"), 50),
    ]
    assert {m.on_missing for m in metrics} == {OnMissing.HOLD}
    assert metrics[0].source is ScoreChoice.AUTO
    assert not any(m.dry_run for m in metrics)


@pytest.mark.parametrize(
    ("scoring", "feedback", "names"),
    [
        (..., False, ["latency", "errors"]),
        (..., True, ["score", "latency", "errors"]),
        ({"judge": {}}, False, ["latency", "errors"]),
        ({"judge": {"module": "a:b"}}, False, ["score", "latency", "errors"]),
        ({"function": "a:b"}, False, ["score", "latency", "errors"]),
    ],
)
def test_score_is_a_default_only_where_something_scores(
    *, scoring: object, feedback: bool, names: list[str]
) -> None:
    spec = spec_of(changed(minimal(), "spec.scoring", scoring))
    analysis = defaults.analysis_with_defaults(spec, feedback_scores=feedback)
    assert [metric.name for metric in analysis.metrics] == names


@pytest.mark.parametrize(("least", "deadline"), [("1h", "24h"), ("12h", "24h"), ("13h", "26h"), (..., "24h")])
def test_a_step_without_a_deadline_gets_a_day_or_twice_its_duration(least: object, deadline: str) -> None:
    first = {"weight": 10} | ({} if least is ... else {"minDuration": least})
    steps = [first, {"weight": 100}]
    spec = spec_of(changed(minimal(), "spec.strategy.canary.steps", steps))
    assert defaults.steps_with_defaults(spec)[0].deadline == parse_duration(deadline)


def test_what_the_user_says_is_kept() -> None:
    strategy = defaults.strategy_with_defaults(spec_of(whole()))
    assert strategy.steps[1].approval is Approval.MANUAL
    assert strategy.steps[0].min_duration == parse_duration("24h")
    assert [m.name for m in strategy.analysis.metrics] == ["score", "latency", "errors", "refusals", "cost"]
    assert strategy.analysis.metrics[3].series == "triage_refusals_total"
    assert strategy.analysis.metrics[4].dry_run


def test_the_tolerance_follows_the_margin() -> None:
    metrics = [{"name": "score", "type": "Score", "maxDrop": "10%"}]
    spec = spec_of(changed(minimal(), "spec.strategy.canary.analysis.metrics", metrics))
    assert defaults.analysis_with_defaults(spec).metrics[0].tolerance == "6%"


def test_a_filled_strategy_survives_the_wire() -> None:
    strategy = defaults.strategy_with_defaults(spec_of(whole()))
    assert type(strategy).model_validate(json.loads(json.dumps(strategy.to_wire()))) == strategy


def test_limits_have_defaults() -> None:
    assert defaults.lm_timeout(spec_of(minimal())) == parse_duration("30s")
    assert defaults.rollback_window(spec_of(minimal())) == 3
    assert defaults.revision_history_limit(spec_of(minimal())) == 10
    assert (
        defaults.rollback_window(spec_of(changed(minimal(), "spec.strategy.rollbackWindow.revisions", 0)))
        == 0
    )


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("strategy.canary.bake", defaults.BAKE),
        ("strategy.canary.readyDeadline", defaults.READY_DEADLINE),
        ("strategy.canary.analysis.interval", defaults.INTERVAL),
        ("strategy.canary.analysis.confidence", defaults.CONFIDENCE),
        ("strategy.canary.analysis.metrics.minSamples", defaults.METRIC_MIN_SAMPLES),
        ("strategy.rollbackWindow.revisions", defaults.ROLLBACK_WINDOW),
        ("revisionHistoryLimit", defaults.REVISION_HISTORY_LIMIT),
        ("lm.timeout", defaults.LM_TIMEOUT),
    ],
)
def test_descriptions_tell_the_default_that_is_applied(path: str, default: object) -> None:
    schema = build_crds()["dspydeployments"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    part = schema["properties"]["spec"]
    for key in path.split("."):
        part = part.get("items", part)["properties"][key]
    told = re.search(r"Default: (.*)\.$", part["description"])
    assert told is not None
    applied = format_duration(default) if isinstance(default, timedelta) else str(default)
    assert told[1] == applied
