"""API objects into views: what each field of a status means on the screen."""

import pytest
from tests.unit.operator.cli import samples

from dspy_operator.cli.views.build import deployment_view, owned_rollouts, rollout_view
from dspy_operator.cli.views.health import health_of
from dspy_operator.cli.views.model import Health, StepState
from dspy_operator.cli.views.strategy import steps_of
from dspy_operator.cli.views.units import age, percent

DONE, CURRENT, AHEAD, FAILED = StepState.DONE, StepState.CURRENT, StepState.AHEAD, StepState.FAILED


def test_stable_and_canary_share_the_traffic() -> None:
    view = deployment_view(samples.deployment(), samples.rollout(), samples.pods())
    assert view.stable is not None
    assert view.canary is not None
    assert (view.stable.weight, view.canary.weight) == (90, 10)
    assert (view.stable.version, view.canary.version) == ("a" * 12, "b" * 12)
    assert view.stable.since == samples.at("10:12:30") - 3 * 86400 - 2 * 3600


def test_conditions_come_in_the_order_of_the_contract() -> None:
    shuffled = samples.deployment()
    shuffled["status"]["conditions"].reverse()
    kinds = [condition.type for condition in deployment_view(shuffled).conditions]
    assert kinds == [
        "Ready",
        "Reconciling",
        "Stalled",
        "Available",
        "Progressing",
        "Paused",
        "AnalysisPassed",
        "TelemetryReady",
    ]


def test_an_object_that_the_operator_has_not_seen_says_so() -> None:
    fresh = samples.deployment()
    del fresh["status"]
    view = deployment_view(fresh)
    assert (view.phase, view.message) == ("Unseen", "the operator has not seen it yet")
    assert view.stable is None
    assert view.health is Health.IN_PROGRESS


def test_a_record_without_status_is_preparing() -> None:
    fresh = samples.rollout()
    del fresh["status"]
    view = rollout_view(fresh)
    assert (view.phase, view.is_open, view.weight) == ("Preparing", True, 0)
    assert [step.state for step in view.steps] == [AHEAD, AHEAD, AHEAD]


def test_evidence_and_samples_are_numbers() -> None:
    score, latency, errors = rollout_view(samples.rollout()).metrics
    assert (score.rollback, score.promote) == (0.07, 0.71)
    assert (score.canary_samples, score.stable_samples, score.samples_needed) == (214, 1930, 400)
    assert latency.promote == 1.2
    assert errors.promote is None


def test_a_metric_says_what_it_may_do() -> None:
    rules = {metric.name: metric.rule for metric in rollout_view(samples.rollout()).metrics}
    assert rules == {
        "score": "may drop 5 %, tolerance 3 %, never below 0.70, from 50 samples",
        "latency": "may rise 20 %, never above 10s, from 50 samples",
        "errors": "may rise 1 point, tolerance 0.6, from 50 samples",
    }


@pytest.mark.parametrize(
    ("phase", "step", "states"),
    [
        ("Preparing", 0, [AHEAD, AHEAD, AHEAD]),
        ("Stepping", 1, [CURRENT, AHEAD, AHEAD]),
        ("Stepping", 2, [DONE, CURRENT, AHEAD]),
        ("Promoting", 2, [DONE, DONE, CURRENT]),
        ("Promoting", 3, [DONE, DONE, CURRENT]),
        ("Baking", 3, [DONE, DONE, DONE]),
        ("Promoted", 3, [DONE, DONE, DONE]),
        ("RollingBack", 2, [DONE, FAILED, AHEAD]),
        ("RolledBack", 1, [FAILED, AHEAD, AHEAD]),
        ("Aborted", 0, [AHEAD, AHEAD, AHEAD]),
        ("Superseded", 2, [DONE, FAILED, AHEAD]),
    ],
)
def test_every_step_has_a_state_in_every_phase(phase: str, step: int, states: list[StepState]) -> None:
    assert [each.state for each in steps_of(samples.strategy(), phase, step)] == states


def test_a_step_says_what_opens_its_gate() -> None:
    assert [step.gate for step in steps_of(samples.strategy(), "Stepping", 1)] == [
        "at least 1h, 100 samples, decided within 72h",
        "at least 1h, decided within 24h, then approval",
        "",
    ]


def test_attempts_of_others_are_left_out_and_the_newest_is_last() -> None:
    newer, foreign = samples.rollout(), samples.rollout()
    newer["metadata"] |= {"name": "newer", "creationTimestamp": "2026-11-23T10:00:00Z"}
    foreign["metadata"]["ownerReferences"][0]["uid"] = "another"
    found = owned_rollouts([newer, foreign, samples.rollout()], samples.deployment())
    assert [each["metadata"]["name"] for each in found] == [samples.ROLLOUT, "newer"]


def test_health_is_read_as_argo_cd_reads_it() -> None:
    assert health_of(samples.healthy()) is Health.HEALTHY
    assert health_of(samples.deployment()) is Health.IN_PROGRESS
    assert health_of(samples.rolled_back()) is Health.DEGRADED


def test_a_status_of_an_older_generation_is_in_progress() -> None:
    behind = samples.rolled_back()
    behind["metadata"]["generation"] = 8
    assert health_of(behind) is Health.IN_PROGRESS


def test_an_object_that_is_being_deleted_is_in_progress() -> None:
    going = samples.healthy()
    going["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z"
    assert health_of(going) is Health.IN_PROGRESS


def test_nothing_that_can_serve_is_degraded_and_a_pause_is_in_progress() -> None:
    down, paused = samples.healthy(), samples.healthy()
    conditions = down["status"]["conditions"]
    for condition in conditions:
        condition["status"] = "False"
    assert health_of(down) is Health.DEGRADED
    paused["status"]["conditions"][-1] |= {"type": "Paused", "status": "True"}
    assert health_of(paused) is Health.IN_PROGRESS


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        *((None, ""), (-5, "0s"), (45, "45s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h")),
        *((11100, "3h5m"), (172800, "2d"), (187200, "2d4h")),
    ],
)
def test_ages_are_written_as_kubectl_does(seconds: float | None, written: str) -> None:
    assert age(seconds) == written


def test_percentages_have_a_space_and_other_words_stay() -> None:
    assert [percent(10), percent("5%"), percent("10s")] == ["10 %", "5 %", "10s"]
