"""The benchmark's simulated pods are what the operator expects, and its figures are what was counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bench.operator.measuring import Figures, count_audited, parse_series
from bench.operator.pages import RATE, Pages, Pod
from bench.operator.report import list_goals

from dspy_operator.metrics.queries import DURATION_BUCKET, DURATION_COUNT, GAUGES

JUDGED = {
    "dspy_http_requests_total",
    "dspy_score_samples_total",
    "dspy_score_sum_total",
    "dspy_score_sumsq_total",
    DURATION_BUCKET,
    DURATION_COUNT,
}
FIGURES = Figures(
    rollouts=50, minutes=3, cpu_seconds=5, rss_mib=100, peak_mib=120, queries=20, queries_seen=20, requests={},
    audited={"get pods": 50.0, "patch dspyrollouts/status": 100.0}, status_writes_per_rollout=2.0, passes=50,
    pass_ms=50,
)  # fmt: skip


@pytest.fixture
def pod() -> Pod:
    pod = Pod("ml", "triage-0", "triage")
    pod.apply(3, {"a": 90, "b": 10}, now=100.0)
    return pod


def read(pod: Pod, now: float) -> dict[str, dict[str, float]]:
    """Sums by name and revision."""
    found: dict[str, dict[str, float]] = {}
    for (name, labels), value in parse_series(Pages().render([pod], now).decode()).items():
        known = dict(labels)
        assert (known["namespace"], known["pod"], known["program"]) == ("ml", "triage-0", "triage")
        by_revision = found.setdefault(name, {})
        revision = known.get("revision", "")
        by_revision[revision] = by_revision.get(revision, 0.0) + value
    return found


def test_a_simulated_pod_reports_all_that_the_operator_reads(pod: Pod) -> None:
    found = read(pod, 200.0)
    assert set(GAUGES) | JUDGED <= found.keys()
    assert found["dspy_routes_generation"] == {"": 3.0}
    assert found["dspy_program_loaded"] == {"a": 1.0, "b": 1.0}


def test_requests_are_split_by_weight_and_advance_with_time(pod: Pod) -> None:
    requests = read(pod, 200.0)["dspy_http_requests_total"]
    assert requests["a"] == pytest.approx(0.9 * RATE * 100, abs=3)
    assert requests["b"] == pytest.approx(0.1 * RATE * 100, abs=3)


def test_a_newer_table_keeps_what_was_counted_and_an_older_one_changes_nothing(pod: Pod) -> None:
    pod.apply(4, {"a": 50, "b": 50}, now=200.0)
    pod.apply(3, {"a": 100}, now=250.0)
    requests = read(pod, 300.0)["dspy_http_requests_total"]
    assert requests["b"] == pytest.approx(0.1 * RATE * 100 + 0.5 * RATE * 100, abs=3)
    assert pod.generation == 4


def test_the_audit_log_is_counted_by_verb_and_resource(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    status = {"verb": "patch", "objectRef": {"resource": "dspyrollouts", "subresource": "status"}}
    early = json.dumps({"verb": "get", "objectRef": {"resource": "pods"}}) + "\n"
    log.write_text(early + (json.dumps(status) + "\n") * 2)
    assert count_audited(log, len(early), log.stat().st_size) == {"patch dspyrollouts/status": 2}


def test_a_goal_is_missed_only_beyond_its_slack() -> None:
    assert FIGURES.request_total == 150
    assert FIGURES.write_total == 100
    assert all(goal.is_met for goal in list_goals(replace(FIGURES, rss_mib=131)))
    missed = [
        goal.name for goal in list_goals(replace(FIGURES, rss_mib=133, queries_seen=29)) if not goal.is_met
    ]
    assert missed == ["queries a minute", "MiB"]


def test_memory_has_a_goal_up_to_fifty_rollouts() -> None:
    assert "MiB" not in {goal.name for goal in list_goals(replace(FIGURES, rollouts=200))}
