"""What commands, pauses and deletions do in each phase, beyond how the attempt ends."""

import pytest
from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.scenes import (
    ABORTED,
    FORWARD,
    GOES_ON,
    HALF_AN_HOUR,
    PHASES,
    SUPERSEDED,
    begin,
    list_phases,
    reach,
    summarize,
)
from tests.unit.operator.rollout.telling import Teller
from tests.unit.operator.rollout.world import DAWN

from dspy_operator.api.names import Command
from dspy_operator.rollout.model import DeploymentRecord, Phase


@pytest.mark.parametrize("command", [Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT, Command.RETRY])
@pytest.mark.parametrize("phase", PHASES)
def test_each_command_is_handled_and_never_acts_again(phase: str, command: Command) -> None:
    teller = reach(phase)
    nonce = teller.world.order(command)
    teller.wait(HALF_AN_HOUR)
    assert nonce in teller.world.deployment.handled[command]
    attempts = len(teller.world.rollouts)
    teller.apply("c")
    teller.wait(HALF_AN_HOUR)
    assert list(teller.world.rollouts)[attempts:] == ["c-1"]
    assert [entry.phase for entry in teller.world.rollouts["c-1"].record.entries].count(Phase.STEPPING) == 2


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_written_while_the_deployment_is_being_deleted(phase: str) -> None:
    teller = reach(phase)
    teller.world.deleting = True
    before = teller.world.deployment, dict(teller.world.rollouts), teller.world.table
    teller.wait(HALF_AN_HOUR)
    assert (teller.world.deployment, teller.world.rollouts, teller.world.table) == before


@pytest.mark.parametrize("phase", FORWARD)
def test_what_protects_also_acts_while_paused(phase: str) -> None:
    teller = reach(phase)
    teller.order(Command.PAUSE)
    teller.wait(60)
    teller.order(Command.ABORT)
    teller.wait(60)
    assert summarize(teller) == ABORTED


@pytest.mark.parametrize("phase", FORWARD)
def test_a_resume_lets_a_paused_attempt_go_on(phase: str) -> None:
    teller = reach(phase)
    teller.order(Command.PAUSE)
    teller.wait(7200)
    teller.order(Command.RESUME)
    teller.wait(HALF_AN_HOUR)
    assert summarize(teller) == GOES_ON


def test_promote_in_preparing_does_not_jump_over_the_first_step() -> None:
    teller = reach("Preparing")
    teller.order(Command.PROMOTE)
    teller.wait(HALF_AN_HOUR)
    assert [(phase, step) for phase, step, _ in list_phases(teller.world)] == [
        ("Preparing", 0),
        ("Stepping", 1),
        ("Stepping", 2),
        ("Promoting", 3),
        ("Baking", 3),
        ("Promoted", 3),
    ]


def test_promote_goes_to_the_next_step_at_once() -> None:
    teller = reach("Stepping")
    teller.order(Command.PROMOTE)
    teller.settle()
    assert list_phases(teller.world)[-1] == ("Stepping", 2, 0.0)


@pytest.mark.parametrize("phase", ["Preparing", "Stepping"])
def test_promote_full_goes_to_the_end_at_once(phase: str) -> None:
    teller = reach(phase)
    teller.order(Command.PROMOTE_FULL)
    teller.settle()
    assert list_phases(teller.world)[-1] == ("Baking", 3, 0.0)


@pytest.mark.parametrize("command", [Command.PROMOTE, Command.PROMOTE_FULL])
@pytest.mark.parametrize("phase", ["Promoting", "Baking"])
def test_a_promotion_by_a_person_ends_the_bake(phase: str, command: Command) -> None:
    teller = reach(phase)
    at = teller.world.now - DAWN
    teller.order(command)
    teller.settle()
    assert list_phases(teller.world)[-1] == ("Promoted", 3, at)


def test_abort_beats_promote() -> None:
    teller = reach("Stepping")
    teller.world.order(Command.ABORT)
    teller.world.now += 1
    teller.order(Command.PROMOTE)
    teller.wait(HALF_AN_HOUR)
    assert summarize(teller) == ABORTED
    assert max(step for _, step, _ in list_phases(teller.world)) == 1


def test_an_outage_does_not_ask_for_the_same_approval_again() -> None:
    teller = begin()
    teller.world.plan = build_plan(manual=(True, False, False))
    teller.apply("b")
    teller.wait(120)
    assert teller.world.rollouts["b-1"].record.awaiting
    for prometheus in (False, True):
        teller.world.prometheus = prometheus
        teller.wait(120)
    assert sum("!AwaitingPromotion" in line for line in teller.lines) == 1
    assert teller.world.rollouts["b-1"].record.awaiting


def test_a_gate_that_closes_again_ends_the_waiting_for_approval() -> None:
    teller = begin()
    teller.world.plan = build_plan(manual=(True, False, False))
    teller.apply("b")
    teller.wait(120)
    teller.world.scores["b"] = 0.72
    teller.wait_until(lambda world: not world.rollouts["b-1"].record.awaiting)
    lines = len(teller.lines)
    teller.settle()
    assert not [line for line in teller.lines[lines:] if "!AwaitingPromotion" in line]


@pytest.mark.parametrize("weights", [(100,), (10, 50, 100)])
def test_a_bake_waits_for_what_it_is_judged_by(weights: tuple[int, ...]) -> None:
    teller = begin()
    teller.world.plan = build_plan(weights=weights, manual=(False,) * len(weights))
    teller.world.has_reference = False
    teller.order(Command.PAUSE)
    teller.apply("b")
    teller.order(Command.RESUME)
    teller.wait_for(Phase.PREPARING)
    teller.world.now += 1
    teller.order(Command.PROMOTE_FULL)
    teller.wait(300)
    assert list_phases(teller.world)[-1][0] == "Promoting"
    assert str(teller.last and teller.last.reason) == "EvidenceMissing"
    teller.world.has_reference = True
    teller.wait(5)
    assert list_phases(teller.world)[-1][0] == "Baking"
    teller.wait(60)
    assert summarize(teller) == GOES_ON


def test_a_queued_revision_that_is_rejected_ends_the_attempt() -> None:
    teller = reach("Stepping")
    teller.world.queue = True
    teller.apply("r")
    teller.wait(60)
    assert summarize(teller) == SUPERSEDED


@pytest.mark.parametrize("phase", PHASES)
def test_a_wiped_deployment_never_goes_forward_by_what_was_open(phase: str) -> None:
    teller = reach(phase)
    teller.world.deployment = DeploymentRecord()
    teller.settle()
    stable = teller.world.deployment.stable
    assert stable is not None
    assert stable.revision == "a"
    teller.wait(60)
    assert (
        teller.world.rollouts.get("b-1", None) is None
        or teller.world.deployment.pointer is None
        or (teller.world.deployment.pointer.rollout != "b-1")
    )


@pytest.mark.parametrize("command", [Command.UNDO, Command.RETRY, Command.PROMOTE, Command.ABORT])
def test_a_command_that_was_handled_does_not_act_again_when_the_status_is_wiped(command: Command) -> None:
    teller = begin()
    teller.apply("b")
    teller.wait_for_the_end()
    teller.wait(60)
    teller.order(command)
    teller.wait(HALF_AN_HOUR)
    before = teller.world.deployment
    teller.world.deployment = DeploymentRecord()
    teller.wait(HALF_AN_HOUR)
    after = teller.world.deployment
    assert after.stable is not None
    assert before.stable is not None
    assert (after.stable.revision, after.pointer) == (before.stable.revision, None)
    assert after.handled[command] == (teller.world.annotations[command.annotation],)


def test_a_pause_outlives_a_wiped_status() -> None:
    teller = begin()
    teller.order(Command.PAUSE)
    teller.wait(60)
    teller.world.deployment = DeploymentRecord()
    teller.apply("b")
    teller.wait(HALF_AN_HOUR)
    assert summarize(teller) == "no attempt; a is stable, nothing rejected"


def test_a_resource_that_is_restored_with_old_commands_begins_like_a_new_one() -> None:
    teller = Teller()
    for command in (Command.UNDO, Command.RETRY, Command.PROMOTE_FULL, Command.ABORT):
        teller.world.order(command)
    teller.start()
    teller.wait(60)
    assert teller.world.deployment.handled.keys() == {
        Command.UNDO,
        Command.RETRY,
        Command.PROMOTE_FULL,
        Command.ABORT,
    }
    assert not [line for line in teller.lines if "CommandRefused" in line]
