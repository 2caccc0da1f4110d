"""Every row of the documentation's status table, from worlds that are really in that state."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command, ConditionType
from dspy_operator.api.reasons import Reason
from dspy_operator.api.status import Condition, DeploymentStatus
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.capacity import ArtifactState
from dspy_operator.rollout.decide import decide
from dspy_operator.rollout.judging import MetricConfig, MetricType
from dspy_operator.rollout.model import Observation, Phase, Rejected
from dspy_operator.rollout.status import (
    Face,
    Telemetry,
    build_canary_display,
    build_display,
    build_evidence,
)

Wire = dict[str, Any]


DENIED = (
    'pods "triage-x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2'
)


def starting(teller: Teller) -> None:
    teller.world.broken_workloads.add("w1")
    teller.settle()


def healthy(teller: Teller) -> None:
    teller.start()


def stepping(teller: Teller) -> None:
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, effective=True)


def paused(teller: Teller) -> None:
    stepping(teller)
    teller.order(Command.PAUSE)
    teller.wait(10)


def paused_in_the_spec_while_idle(teller: Teller) -> None:
    teller.start()
    teller.world.paused = True
    teller.apply("b")
    teller.settle()


def awaiting(teller: Teller) -> None:
    teller.world.plan = build_plan(manual=(True, False, False))
    stepping(teller)
    teller.wait(120)


def without_traffic(teller: Teller) -> None:
    teller.world.requests = 0
    stepping(teller)
    teller.wait(60)


def blind(teller: Teller) -> None:
    stepping(teller)
    teller.world.prometheus = False
    teller.wait(60)


def rolled_back(teller: Teller) -> None:
    teller.start()
    teller.world.scores["b"] = 0.4
    teller.apply("b")
    teller.wait_for_the_end()


def artifact_is_missing(teller: Teller) -> None:
    teller.start()
    teller.world.artifacts["b"] = ArtifactState.MISSING
    teller.apply("b")
    teller.settle()


def artifact_has_another_digest(teller: Teller) -> None:
    teller.start()
    teller.world.artifacts["b"] = ArtifactState.MISMATCH
    teller.apply("b")
    teller.settle()


def artifact_was_refused_by_the_pods(teller: Teller) -> None:
    teller.start()
    entry = Rejected("b", Reason.SIGNATURE_MISMATCH, "then")
    teller.world.deployment = replace(teller.world.deployment, rejected=(entry,))
    teller.apply("b")
    teller.settle()


def first_pods_are_denied(teller: Teller) -> None:
    teller.world.denied = DENIED
    starting(teller)


def more_pods_are_denied(teller: Teller) -> None:
    teller.start()
    teller.world.denied = DENIED
    teller.settle()


def down(teller: Teller) -> None:
    teller.start()
    teller.world.ready = 0
    teller.settle()


# world: Ready and its reason, Reconciling, Stalled, Available, Progressing, Paused, phase
ROWS: dict[Callable[[Teller], None], tuple[str, ...]] = {
    healthy: ("True Healthy", "False", "False", "True", "False", "False", "Healthy"),
    starting: ("Unknown Initializing", "True", "False", "False", "False", "False", "Initializing"),
    stepping: ("Unknown RolloutInProgress", "True", "False", "True", "True", "False", "Progressing"),
    paused: ("Unknown RolloutInProgress", "True", "False", "True", "True", "True", "Paused"),
    paused_in_the_spec_while_idle: ("Unknown Paused", "True", "False", "True", "False", "True", "Paused"),
    awaiting: ("Unknown RolloutInProgress", "True", "False", "True", "True", "True", "Paused"),
    without_traffic: ("Unknown RolloutInProgress", "True", "False", "True", "True", "False", "Progressing"),
    blind: ("Unknown RolloutInProgress", "True", "False", "True", "True", "False", "Progressing"),
    rolled_back: ("False RolledBack", "False", "True", "True", "False", "False", "Degraded"),
    artifact_is_missing: (
        "Unknown WaitingForArtifact",
        "True",
        "False",
        "True",
        "False",
        "False",
        "Progressing",
    ),
    artifact_has_another_digest: (
        "False DigestMismatch",
        "False",
        "True",
        "True",
        "False",
        "False",
        "Degraded",
    ),
    artifact_was_refused_by_the_pods: (
        "False SignatureMismatch",
        "False",
        "True",
        "True",
        "False",
        "False",
        "Degraded",
    ),
    first_pods_are_denied: ("False QuotaExceeded", "False", "True", "False", "False", "False", "Degraded"),
    more_pods_are_denied: ("False QuotaExceeded", "False", "True", "True", "False", "False", "Degraded"),
    down: ("False PodsNotReady", "True", "False", "False", "False", "False", "Degraded"),
}


def look_at(build: Callable[[Teller], None], **face: Any) -> tuple[Observation, Decision, Wire]:
    teller = Teller()
    build(teller)
    seen = teller.world.observe()
    decision = decide(seen)
    ready = seen.capacity.ready_pods
    shown = Face(generation=7, conditions=(), selector="a=b", total_pods=2, ready_pods=ready)
    return seen, decision, build_display(seen, decision, replace(shown, **face))


def get_condition(display: Wire, kind: ConditionType) -> Wire:
    return next(c for c in display["conditions"] if c["type"] == kind)


@pytest.mark.parametrize("build", ROWS, ids=lambda build: build.__name__)
def test_the_status_is_the_row_of_the_table(build: Callable[[Teller], None]) -> None:
    _, _, display = look_at(build)
    by_type = {c["type"]: c for c in display["conditions"]}
    ready = by_type["Ready"]
    kinds = ["Reconciling", "Stalled", "Available", "Progressing", "Paused"]
    row = (f"{ready['status']} {ready['reason']}", *(by_type[kind]["status"] for kind in kinds))
    assert (*row, display["phase"]) == ROWS[build]


@pytest.mark.parametrize("build", ROWS, ids=lambda build: build.__name__)
def test_all_conditions_are_there_in_order_and_fit_the_schema(build: Callable[[Teller], None]) -> None:
    _, _, display = look_at(build)
    assert [c["type"] for c in display["conditions"]] == [kind.value for kind in ConditionType]
    assert [c["type"] for c in display["conditions"]][:3] == ["Ready", "Reconciling", "Stalled"]
    assert all(Condition.model_validate(c).observed_generation == 7 for c in display["conditions"])
    assert DeploymentStatus.model_validate(display).observed_generation == 7


def test_a_time_changes_only_with_the_status_of_its_condition() -> None:
    _, _, first = look_at(stepping)
    long_ago = [c | {"lastTransitionTime": "2020-01-01T00:00:00Z"} for c in first["conditions"]]
    _, _, paused_now = look_at(paused, conditions=long_ago)
    since = {c["type"]: c["lastTransitionTime"] for c in paused_now["conditions"]}
    changed = {kind for kind, time in since.items() if time != "2020-01-01T00:00:00Z"}
    assert changed == {"Paused"}


@pytest.mark.parametrize("build", [first_pods_are_denied, more_pods_are_denied], ids=lambda b: b.__name__)
def test_a_denied_pod_is_told_in_the_words_of_the_api_server(build: Callable[[Teller], None]) -> None:
    seen, decision, display = look_at(build)
    condition = get_condition(display, ConditionType.STALLED)
    assert condition["message"].endswith(DENIED)
    assert condition["message"].startswith(f"{seen.capacity.ready_pods} of 2 pods are ready")
    assert decision.wait, "nothing tells when there is room again"


def test_ready_when_serving_says_ready_during_a_rollout() -> None:
    _, _, display = look_at(stepping, ready_when_serving=True)
    assert get_condition(display, ConditionType.READY)["status"] == "True"
    assert get_condition(display, ConditionType.RECONCILING)["status"] == "False"
    assert get_condition(display, ConditionType.PROGRESSING)["status"] == "True"


def test_a_consumed_command_never_looks_healthy_while_the_spec_asks_for_another_revision() -> None:
    teller = Teller()
    rolled_back(teller)
    teller.order(Command.PROMOTE)
    seen = teller.world.observe()
    decision = decide(seen)
    assert decision.deployment is not None
    face = Face(generation=8, conditions=(), selector="", total_pods=2, ready_pods=2)
    ready = get_condition(build_display(seen, decision, face), ConditionType.READY)
    assert ready["status"] != "True"


def test_the_analysis_is_open_then_passed_or_failed() -> None:
    assert look_at(healthy)[2]["conditions"][6]["reason"] == Reason.NO_ROLLOUT
    assert look_at(stepping)[2]["conditions"][6]["status"] == "Unknown"
    condition = look_at(rolled_back)[2]["conditions"][6]
    assert (condition["status"], condition["reason"]) == ("False", "RolledBack")


def test_a_rollout_without_scores_says_so() -> None:
    def stepping_without_scores(teller: Teller) -> None:
        plan = build_plan()
        errors = MetricConfig("errors", MetricType.ERROR_RATE, 0.01)
        teller.world.plan = replace(plan, config=replace(plan.config, metrics=(errors,)))
        stepping(teller)

    condition = look_at(stepping_without_scores)[2]["conditions"][6]
    assert condition["reason"] == Reason.NO_SCORE_SOURCE
    assert condition["message"].startswith("No source of scores: judging errors only.")


def test_telemetry_is_shown_as_it_was_found() -> None:
    telemetry = Telemetry("False", Reason.PODS_MISSING, "one is missing")
    condition = look_at(healthy, telemetry=telemetry)[2]["conditions"][7]
    assert (condition["status"], condition["reason"]) == ("False", "PodsMissing")


def test_the_numbers_of_the_columns() -> None:
    seen, decision, display = look_at(stepping)
    assert (display["weight"], display["readyReplicas"], display["replicas"]) == (10, 2, 2)
    canary = build_canary_display(seen, decision.verdict)
    assert (canary["step"], canary["steps"], canary["weight"], canary["version"]) == (1, 3, 10, "b" * 12)


def test_the_score_and_the_evidence_of_a_look_are_shown() -> None:
    teller = Teller()
    stepping(teller)
    teller.world.scores["b"] = 0.78
    teller.world.now += 10
    seen = replace(teller.world.observe(), p95={"a": 1.0, "b": 1.03})
    decision = decide(seen)
    assert build_canary_display(seen, decision.verdict)["score"] == "-2.5%"
    assert build_canary_display(seen, decision.verdict)["p95"] == "+3%"
    evidence = build_evidence(seen, decision)
    assert evidence["decision"]["action"] == "Hold"
    (metric,) = evidence["metrics"]
    assert metric["samples"] == {"canary": 100, "stable": 900}
    assert float(metric["evidence"]["rollback"]) < 1


def test_a_long_message_is_cut() -> None:
    seen, decision, _ = look_at(healthy)
    face = Face(generation=1, conditions=(), selector="", total_pods=2, ready_pods=2)
    display = build_display(seen, replace(decision, message="x" * 5000), face)
    assert DeploymentStatus.model_validate(display).message == "x" * 1024
