"""The regression gate as decisions see it: which words of which container are believed, and which say nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.operator.reconcile.objects import NOW, Object, build_deployment, build_snapshot, revision_of

from dspy_operator.api import names
from dspy_operator.errors import Conflict
from dspy_operator.reconcile.gates import build_job, find_missing_examples, is_first_gated, observe_gate
from dspy_operator.reconcile.snapshot import Input, Snapshot
from dspy_operator.rollout.actions import RunGate
from dspy_operator.rollout.capacity import Gate, GateState
from dspy_operator.rollout.judging import RolloutConfig
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Plan,
    Pointer,
    Program,
    Rollout,
    RolloutRecord,
    Stable,
)

GATE = {
    "dataset": {"configMap": {"name": "canary-set", "key": "examples.jsonl"}},
    "metric": "triage:metric",
    "minScore": "0.7",
}
FIRST = Program(revision_of("a"), "0a1b2c3d", "a" * 64, "triage:Triage")
NAME = names.gate_name("triage", revision_of("a"), 1)
PASS = {"verdict": "Pass", "message": "mean 0.81", "canarySha256": "a" * 64, "stableSha256": None}


def build_job_object(name: str = NAME, *conditions: Object) -> Object:
    meta = {"name": name, "namespace": "ml", "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"metadata": meta, "status": {"conditions": list(conditions)}}


def ended(kind: str = "Failed", **more: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z", **more}


def say(words: Any, job: str = NAME, container: str = names.CONTAINER, **more: Any) -> Object:
    text = words if isinstance(words, str) else json.dumps(words)
    state = {"terminated": {"message": text, "exitCode": 0, **more}}
    return {
        "metadata": {"name": "pod", "uid": "p", "ownerReferences": [{"uid": f"uid-{job}"}]},
        "status": {"containerStatuses": [{"name": container, "state": state}]},
    }


def observe(*pods: Object, job: Object | None = None, record: DeploymentRecord | None = None) -> Gate:
    live = job or build_job_object()
    snapshot = build_snapshot(jobs={live["metadata"]["name"]: live}, gate_pods=pods)
    return observe_gate(snapshot, record or DeploymentRecord(), None, FIRST)


def build_attempt(workload: str) -> Rollout:
    origin = Program(revision_of("s"), "0a1b2c3d", "5" * 64, "triage:Triage")
    plan = Plan((10, 100), (False, False), 0.0, 60.0, RolloutConfig(steps=(), metrics=()))
    return Rollout("r", "u", origin, replace(FIRST, workload=workload), False, plan, RolloutRecord(), NOW)  # noqa: FBT003


@pytest.mark.parametrize(
    ("workload", "state"), [("1b2c3d4e", GateState.PASSED), ("0a1b2c3d", GateState.NO_VERDICT)]
)
def test_a_pass_without_stable_is_believed_only_of_other_code(workload: str, state: GateState) -> None:
    live = build_job_object()
    snapshot = build_snapshot(jobs={NAME: live}, gate_pods=(say(PASS),))
    pointer = Pointer(FIRST.revision, FIRST.revision, 1, "r", "u")
    record = DeploymentRecord(Stable(revision_of("s"), "5" * 64, "2026-11-23T10:00:00Z"), pointer=pointer)
    assert observe_gate(snapshot, record, build_attempt(workload), FIRST).state is state


def test_a_job_without_an_end_runs() -> None:
    assert observe() == Gate(GateState.RUNNING, NAME)


def test_the_words_of_the_container_are_the_verdict_before_the_job_has_ended() -> None:
    assert observe(say(PASS)) == Gate(GateState.PASSED, NAME, "mean 0.81")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("Fail", GateState.FAILED), ("Invalid", GateState.FAILED), ("NoVerdict", GateState.NO_VERDICT)],
)
def test_every_verdict_has_its_state(verdict: str, state: GateState) -> None:
    found = observe(say({"verdict": verdict, "message": "why"}), job=build_job_object(NAME, ended()))
    assert (found.state, found.message) == (state, "why")


@pytest.mark.parametrize(
    "words", ["", "Traceback …", "[]", '{"verdict": "Great"}', '{"verdict": ["Pass"]}', "null"]
)
def test_words_that_are_no_result_are_no_verdict(words: str) -> None:
    found = observe(say(words, exitCode=137, reason="OOMKilled"), job=build_job_object(NAME, ended()))
    assert found.state is GateState.NO_VERDICT
    assert found.message == "the run ended with code 137 (OOMKilled) and without a result"
    assert found.ended_at == NOW


def test_a_job_that_was_killed_without_a_word_is_no_verdict() -> None:
    job = build_job_object(NAME, ended(reason="DeadlineExceeded", message="Job was active too long"))
    assert observe(job=job) == Gate(GateState.NO_VERDICT, NAME, "Job was active too long", NOW)


@pytest.mark.parametrize("other", [{"canarySha256": "b" * 64}, {"stableSha256": "b" * 64}])
def test_a_pass_of_other_programs_is_no_verdict(other: Object) -> None:
    assert observe(say(PASS | other)).state is GateState.NO_VERDICT


def test_words_of_a_sidecar_or_of_another_jobs_pod_are_not_heard() -> None:
    assert observe(say(PASS, container="proxy")).state is GateState.RUNNING
    assert observe(say(PASS, job="triage-gate-x-1")).state is GateState.RUNNING


def test_a_job_of_something_else_that_runs_is_left_over_and_one_that_has_ended_is_not() -> None:
    assert observe(job=build_job_object("triage-gate-x-1")) == Gate(left=("triage-gate-x-1",))
    assert observe(job=build_job_object("triage-gate-x-1", ended("Complete"))) == Gate()


def test_the_first_revision_has_no_gate_any_more_once_it_has_served() -> None:
    served = DeploymentRecord(stable=Stable(revision_of("a"), "a" * 64, "2026-11-23T10:00:00Z"))
    assert observe(record=served) == Gate(left=(NAME,))


def gated(**gate: Any) -> Snapshot:
    deployment = build_deployment()
    deployment["spec"]["regression"] = {**GATE, **gate}
    return build_snapshot(deployment=deployment)


def test_examples_that_are_not_there_are_named_and_only_a_floor_gates_the_first_revision() -> None:
    assert "canary-set" in find_missing_examples(gated())
    assert find_missing_examples(replace(gated(), examples=Input(digest="d" * 64))) == ""
    assert find_missing_examples(build_snapshot()) == ""
    assert is_first_gated(gated())
    assert not is_first_gated(gated(minScore=None))
    assert not is_first_gated(build_snapshot())


def test_no_job_is_made_of_what_nothing_describes_any_more() -> None:
    with pytest.raises(Conflict, match="what the gate compares"):
        build_job(RunGate(FIRST, 1), gated())
