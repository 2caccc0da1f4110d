"""The durable records on the wire and back: nothing that a decision rests on is lost."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.rollout.judging import REFERENCE
from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.telling import Teller
from tests.unit.operator.rollout.world import DAWN

from dspy_operator.api.names import Command
from dspy_operator.api.rollout import DSPyRollout, RolloutStatus
from dspy_operator.api.status import DeploymentStatus
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Entry,
    Phase,
    Pointer,
    Rejected,
    RolloutRecord,
    Stable,
)
from dspy_operator.rollout.records import (
    build_deployment_record,
    build_rollout_record,
    read_deployment_record,
    read_rollout_record,
)

HASH = "0123456789"
SHA = "ab" * 32
NOW = "2026-11-23T10:00:00Z"
times = st.integers(0, 10**9).map(lambda ms: DAWN + ms / 1000)
handled = st.dictionaries(st.sampled_from(Command), st.lists(st.just(NOW), min_size=1, max_size=2).map(tuple))


def build_rollout(status: RolloutStatus) -> DSPyRollout:
    """All that a record is read from."""
    return cast("DSPyRollout", SimpleNamespace(status=status))


def without_null(value: Any) -> Any:
    """What the API server stores of a merge patch."""
    if isinstance(value, dict):
        return {key: without_null(inner) for key, inner in value.items() if inner is not None}
    return value


@settings(deadline=None)
@given(
    stable=st.sampled_from([None, Stable(HASH, SHA), Stable(HASH, SHA, NOW)]),
    rejected=st.lists(
        st.sampled_from([Rejected(HASH, "NotReady", NOW), Rejected(HASH, "NotReady", NOW, SHA, "too slow")]),
        max_size=2,
    ).map(tuple),
    pointer=st.sampled_from([None, Pointer(HASH, HASH, 3, "triage-0123456789-3", "uid")]),
    handled=handled,
)
def test_a_deployments_record_survives_the_wire(
    stable: Stable | None, rejected: tuple[Rejected, ...], pointer: Pointer | None, handled: Any
) -> None:
    record = DeploymentRecord(stable, rejected, pointer, handled)
    wire = without_null(build_deployment_record(record))
    assert read_deployment_record(DeploymentStatus.model_validate(wire)) == record


def test_a_rejected_revision_is_shown_with_its_version_and_a_sentence() -> None:
    teller = Teller()
    teller.start()
    teller.world.scores["b"] = 0.5
    teller.apply("b")
    teller.wait_for_the_end()
    told = teller.world.rollouts["b-1"].record.message
    (shown,) = build_deployment_record(teller.world.deployment)["rejected"]
    assert shown["sha256"] == "b" * 64
    assert shown["version"] == "b" * 12
    assert told.endswith("roll back")
    assert shown["message"] == told


def test_a_record_that_was_lost_still_names_the_version_that_is_rejected() -> None:
    teller = Teller()
    teller.start()
    teller.apply("b")
    teller.wait_for(Phase.STEPPING, 1)
    teller.world.rollouts.clear()
    teller.wait_for_the_end()
    (shown,) = build_deployment_record(teller.world.deployment)["rejected"]
    assert (shown["reason"], shown["version"]) == ("RecordLost", "b" * 12)
    assert "b-1 was lost" in shown["message"]


@settings(deadline=None)
@given(
    phase=st.sampled_from(Phase),
    step=st.integers(0, 10),
    outcome=st.sampled_from([None, Phase.ROLLED_BACK]),
    times=st.tuples(st.none() | times, st.none() | times),
    flags=st.tuples(st.booleans(), st.booleans()),
    handled=handled,
    has_test=st.booleans(),
)
def test_an_attempts_record_survives_the_wire(
    phase: Phase,
    step: int,
    outcome: Phase | None,
    times: tuple[float | None, float | None],
    flags: tuple[bool, bool],
    handled: Any,
    has_test: bool,  # noqa: FBT001  hypothesis gives it by name
) -> None:
    analysis = Analysis.start(build_plan().config, REFERENCE, DAWN) if has_test else None
    record = RolloutRecord(
        phase=phase,
        step=step,
        outcome=outcome,
        reason="GateOpen",
        message="a sentence",
        number=7,
        epoch=2,
        started_at=times[0],
        effective_at=times[1],
        awaiting=flags[0],
        held=flags[1],
        weight=50,
        handled=handled,
        entries=(Entry(DAWN + 0.25, 7, phase, step, 50, "GateOpen", "a sentence"),),
        analysis=analysis,
    )
    wire = without_null(build_rollout_record(record))
    status = RolloutStatus.model_validate(wire)
    read = Analysis.from_text(status.looks) if status.looks else None
    rollout = build_rollout(status)
    assert read_rollout_record(rollout, read) == record


def test_an_empty_status_is_preparing() -> None:
    rollout = build_rollout(RolloutStatus())
    assert read_rollout_record(rollout, None) == RolloutRecord()


def test_a_phase_of_another_version_is_not_read() -> None:
    rollout = build_rollout(RolloutStatus.model_validate({"phase": "Dreaming"}))
    with pytest.raises(ValueError, match="Dreaming"):
        read_rollout_record(rollout, None)


def test_what_is_gone_is_null_so_that_the_patch_removes_it() -> None:
    wire = build_deployment_record(DeploymentRecord(stable=Stable(HASH, SHA)))
    assert wire["canary"] is None
    assert wire["rejected"] is None
    assert wire["stable"]["promotedAt"] is None
    assert build_rollout_record(RolloutRecord())["weightEffectiveAt"] is None


def test_commands_of_another_version_are_left_out() -> None:
    status = DeploymentStatus.model_validate({"handledCommands": {"dance": [NOW], "abort": [NOW]}})
    assert read_deployment_record(status).handled == {Command.ABORT: (NOW,)}
