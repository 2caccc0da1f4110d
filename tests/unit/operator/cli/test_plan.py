"""`plan`: what each step takes, what cannot be decided and what would do; exit codes for pipelines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.cli.recorded import SCORE, build_manifest

from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run
from dspy_operator.cli.offline.planning import Conditions, Forecast, build_forecast
from dspy_operator.cli.render.plan import rate_text
from dspy_operator.metrics.series import Row
from dspy_operator.metrics.traffic import build_traffic, list_traffic_queries
from dspy_operator.rollout.judging import (
    MetricConfig,
    MetricType,
    Mode,
    Reference,
    RolloutConfig,
    StepConfig,
)

STEPS = [
    {"weight": 10, "minDuration": "1h", "deadline": "72h"},
    {"weight": 50, "deadline": "24h"},
    {"weight": 100},
]
THUMBS = Reference(mean=0.8, variance=0.16)
METRIC = MetricConfig("score", MetricType.SCORE, margin=0.05, min_samples=50)
Plan = Callable[..., tuple[int, str]]


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    def call(*options: str, **manifest: Any) -> tuple[int, str]:
        file = tmp_path / "cr.json"
        file.write_text(json.dumps(build_manifest(**({"steps": STEPS} | manifest))))
        end = run(["plan", "-f", str(file), *options])
        written = capsys.readouterr()
        return end, written.out + written.err

    return call


def forecast(
    *metrics: MetricConfig,
    per_minute: float = 120.0,
    reference: Reference | None = THUMBS,
    steps: tuple[StepConfig, ...] = (StepConfig(10), StepConfig(50), StepConfig(100)),
    mode: Mode = Mode.EVIDENCE,
) -> Forecast:
    config = RolloutConfig(steps, metrics, mode=mode)
    rates = {metric.name: per_minute / 60 for metric in metrics}
    known = {} if reference is None else {metric.name: reference for metric in metrics}
    return build_forecast(config, Conditions(rates, known))


def test_enough_traffic_is_decidable_and_exits_with_0(plan: Plan) -> None:
    end, out = plan("--rate", "120/min")
    assert end == Exit.HEALTHY
    assert "A canary as good as stable is promoted in about" in out
    assert "cannot be decided" not in out


def test_too_little_traffic_exits_with_2_and_says_what_would_do(plan: Plan) -> None:
    end, out = plan("--rate", "20/h")
    assert end == Exit.IN_PROGRESS
    assert (
        "! step 2: score cannot be decided within 24h: it takes about 641 samples of the canary, that time brings 240."
    ) in out
    assert "a deadline of 65h, or 2.7 times the traffic" in out
    assert "onDeadline Threshold decides" in out


def test_what_would_do_does(plan: Plan) -> None:
    longer = [STEPS[0], {"weight": 50, "deadline": "65h"}, {"weight": 100}]
    assert plan("--rate", "20/h", steps=longer)[0] == Exit.HEALTHY
    assert plan("--rate", "54/h")[0] == Exit.HEALTHY


def test_a_heavier_weight_is_proposed_where_it_suffices(plan: Plan) -> None:
    light = [{"weight": 5, "deadline": "24h"}, {"weight": 100}]
    end, out = plan("--rate", "3/min", steps=light)
    assert end == Exit.IN_PROGRESS
    assert "or a weight of 9 %" in out
    assert (
        plan("--rate", "3/min", steps=[{"weight": 9, "deadline": "24h"}, {"weight": 100}])[0] == Exit.HEALTHY
    )
    assert (
        plan("--rate", "3/min", steps=[{"weight": 8, "deadline": "24h"}, {"weight": 100}])[0]
        == Exit.IN_PROGRESS
    )


def test_min_samples_that_the_deadline_cannot_bring_are_told(plan: Plan) -> None:
    greedy = [{"weight": 10, "deadline": "1h", "minSamples": 1000}, *STEPS[1:]]
    end, out = plan("--rate", "60/min", steps=greedy)
    assert end == Exit.IN_PROGRESS
    assert "step 1: score cannot be decided within 60m: it takes about 1000 samples" in out


def test_scripts_get_seconds_and_troubles(plan: Plan) -> None:
    end, out = plan("--rate", "2/s", "-o", "json")
    data = json.loads(out)
    assert (end, data["decidable"], data["troubles"]) == (Exit.HEALTHY, True, [])
    assert data["ratesPerMinute"] == {"score": 120.0}
    assert data["secondsToPromote"] == sum(step["seconds"] for step in data["steps"])
    assert data["steps"][0]["seconds"] == 3600


def test_the_assumed_score_can_be_given(plan: Plan) -> None:
    few = json.loads(
        plan("--rate", "2/s", "-o", "json", "--score-mean", "0.9", "--score-variance", "0.01")[1]
    )
    many = json.loads(plan("--rate", "2/s", "-o", "json", "--score-mean", "0.6")[1])
    assert few["steps"][1]["samples"] < 200 < many["steps"][1]["samples"]


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (30.0, "1800 samples a minute"),
        (0.05, "3 samples a minute"),
        (20 / 3600, "20 samples an hour"),
        (0.0, "0 samples an hour"),
    ],
)
def test_rates_are_said_as_people_say_them(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_threshold_mode_takes_min_samples_only() -> None:
    assert forecast(METRIC, mode=Mode.THRESHOLD).steps[1].samples == 50
    assert (forecast(METRIC).steps[1].samples or 0) > 600


@pytest.mark.parametrize(
    ("metrics", "options", "said"),
    [
        ((MetricConfig("score", MetricType.SCORE, margin=0.05, tolerance=0.0),), {}, "with tolerance 0"),
        ((METRIC,), {"reference": Reference(mean=0.0, variance=0.0)}, "stable's mean is 0"),
        ((METRIC,), {"steps": (StepConfig(100),)}, "no step lies below 100 %"),
        (
            (MetricConfig("latency", MetricType.LATENCY_P95, margin=0.2),),
            {"reference": Reference(p95=10.0, bounds=(1.0, 5.0, 10.0))},
            "the histogram has no bound above the limit of 12 s",
        ),
        (
            (MetricConfig("cost", MetricType.COST_PER_REQUEST, margin=0.3, dry_run=True),),
            {},
            "no metric decides",
        ),
    ],
)
def test_what_no_traffic_can_decide_is_flagged(
    metrics: tuple[MetricConfig, ...], options: dict[str, Any], said: str
) -> None:
    found = forecast(*metrics, **options)
    assert not found.is_decidable
    assert any(said in trouble for trouble in found.troubles)


def test_no_samples_at_all_are_a_trouble_of_every_step() -> None:
    found = forecast(METRIC, per_minute=0.0)
    assert found.seconds is None
    assert [step.troubles for step in found.steps] == [
        ("score cannot be decided within 24h: no samples come",),
        ("score cannot be decided within 24h: no samples come",),
    ]


def test_the_slowest_metric_sets_the_time() -> None:
    errors = MetricConfig("errors", MetricType.ERROR_RATE, margin=0.001)
    config = RolloutConfig((StepConfig(50), StepConfig(100)), (METRIC, errors))
    given = Conditions(
        {"score": 2.0, "errors": 2.0}, {"score": THUMBS, "errors": Reference(mean=0.99, variance=0.0099)}
    )
    step = build_forecast(config, given).steps[0]
    assert step.slowest == "errors"
    assert [one.metric for one in step.worse] == ["score", "errors"]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--rate", "fast"),
        ("--rate", "60"),
        ("--rate", "1/min", "--score-mean", "2"),
    ],
)
def test_a_wrong_command_line_ends_with_64(plan: Plan, options: tuple[str, ...]) -> None:
    assert plan(*options)[0] == Exit.USAGE


def test_a_prometheus_that_is_not_there_is_told_with_what_to_do(plan: Plan) -> None:
    end, out = plan("--prometheus", "http://127.0.0.1:1")
    assert end == Exit.INTERNAL
    assert "Prometheus: the connection failed" in out
    assert "port-forward" in out


def test_a_bad_metric_of_the_manifest_is_named(plan: Plan) -> None:
    end, out = plan("--rate", "1/min", metrics=[{**SCORE, "tolerance": "9%"}])
    assert end == Exit.USAGE
    assert "tolerance" in out


def row(value: float, **labels: str) -> Row:
    return Row(labels, value)


def test_traffic_is_a_days_average_or_that_of_as_much_as_is_known() -> None:
    scores, requests = [row(7200.0, source="metric")], [row(3600.0, revision="a"), row(600.0, revision="b")]
    traffic = build_traffic([scores, requests, [row(3000.0)], [row(600.0)]])
    assert traffic.scores == {"metric": 12.0}
    assert (traffic.requests, traffic.fresh, traffic.busiest) == (7.0, 5.0, "a")


@pytest.mark.parametrize("age", [[], [row(float("nan"))], [row(30.0)]])
def test_pods_that_are_not_known_for_a_minute_have_no_rate(age: list[Row]) -> None:
    traffic = build_traffic([[row(5.0, source="metric")], [row(5.0, revision="a")], [row(5.0)], age])
    assert (traffic.scores, traffic.requests, traffic.busiest) == ({}, 0.0, "")


def test_a_name_with_quotes_cannot_leave_its_place_in_a_query() -> None:
    for query in list_traffic_queries(('a"} or vector(1) #', "b")):
        assert '{namespace="a\\"} or vector(1) #",program="b"' in query
