"""The operator's own metrics: what a scrape shows, and what is gone with a resource."""

import math

import pytest

from dspy_operator.api.names import OperatorMetric
from dspy_operator.rollout.judging import MetricAnswer, MetricVerdict, Reason
from dspy_operator.telemetry import API_REQUESTS, Telemetry


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def sample(telemetry: Telemetry, metric: str, /, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(metric, labels)


def verdict(drop: float | None) -> MetricVerdict:
    return MetricVerdict(
        name="score",
        verdict=next(iter(MetricAnswer)),
        reason=next(iter(Reason)),
        message="",
        drop=drop,
        drop_text="",
        canary_samples=1,
        stable_samples=1,
        required_samples=1,
        ln_e_rollback=0,
        ln_e_promote=0,
        evidence_rollback=0.25,
        evidence_promote=0.5,
        samples_needed=None,
        dispersion=1,
        dry_run=False,
    )


def test_every_documented_metric_is_there(telemetry: Telemetry) -> None:
    telemetry.show_rollout("ml", "triage", "Stepping", 10)
    telemetry.show_metric("ml", "triage", verdict(0.1))
    telemetry.count_reconcile_error("Transient")
    shown = {sample.name for family in telemetry.registry.collect() for sample in family.samples}
    missing = [metric for metric in OperatorMetric if not {metric, f"{metric}_count"} & shown]
    assert missing == []


def test_only_the_current_phase_is_shown(telemetry: Telemetry) -> None:
    who = {"namespace": "ml", "name": "triage"}
    telemetry.show_rollout("ml", "triage", "Stepping", 10)
    telemetry.show_rollout("ml", "triage", "Baking", 100)
    assert sample(telemetry, OperatorMetric.ROLLOUT_INFO, phase="Baking", **who) == 1
    assert sample(telemetry, OperatorMetric.ROLLOUT_INFO, phase="Stepping", **who) is None
    assert sample(telemetry, OperatorMetric.ROLLOUT_WEIGHT, **who) == 100


def test_evidence_is_shown_while_a_rollout_goes_on(telemetry: Telemetry) -> None:
    place = {"namespace": "ml", "name": "triage", "metric": "score"}
    telemetry.show_rollout("ml", "triage", "Stepping", 10)
    telemetry.show_metric("ml", "triage", verdict(0.04))
    assert sample(telemetry, OperatorMetric.METRIC_DELTA, **place) == 0.04
    assert sample(telemetry, OperatorMetric.EVIDENCE, kind="rollback", **place) == 0.25
    assert sample(telemetry, OperatorMetric.EVIDENCE, kind="promote", **place) == 0.5
    telemetry.show_metric("ml", "triage", verdict(None))
    unknown = sample(telemetry, OperatorMetric.METRIC_DELTA, **place)
    assert unknown is not None
    assert math.isnan(unknown)
    telemetry.show_rollout("ml", "triage", "Idle", 0)
    assert sample(telemetry, OperatorMetric.METRIC_DELTA, **place) is None


def test_a_resource_that_is_gone_leaves_no_series(telemetry: Telemetry) -> None:
    for name in ("triage", "other"):
        telemetry.show_rollout("ml", name, "Stepping", 10)
        telemetry.show_metric("ml", name, verdict(0.04))
    telemetry.forget("ml", "triage")
    telemetry.forget("ml", "never-seen")
    names = {
        sample.labels["name"]
        for family in telemetry.registry.collect()
        for sample in family.samples
        if "name" in sample.labels
    }
    assert names == {"other"}


def test_work_is_counted(telemetry: Telemetry) -> None:
    assert sample(telemetry, OperatorMetric.ROLLOUTS, outcome="RolledBack") == 0
    telemetry.count_rollout("RolledBack", 300)
    telemetry.count_query("ok")
    telemetry.count_request("patch", "configmaps", "409")
    telemetry.observe_rollback(0.4)
    with telemetry.time_pass():
        pass
    assert sample(telemetry, OperatorMetric.ROLLOUTS, outcome="RolledBack") == 1
    assert sample(telemetry, f"{OperatorMetric.ROLLOUT_DURATION}_sum", outcome="RolledBack") == 300
    assert sample(telemetry, OperatorMetric.QUERIES, result="ok") == 1
    assert sample(telemetry, API_REQUESTS, verb="patch", resource="configmaps", code="409") == 1
    assert sample(telemetry, f"{OperatorMetric.ROLLBACK_SECONDS}_bucket", le="0.5") == 1
    assert sample(telemetry, f"{OperatorMetric.RECONCILE_SECONDS}_count") == 1
