"""Every event in every phase: what an attempt to revision b ends as, what opens afterwards, what is stable then.

Stable is a, the last promoted one before it z, and revision r is rejected. After the event half an hour passes.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.operator.rollout.plans import build_program
from tests.unit.operator.rollout.telling import Teller, is_at
from tests.unit.operator.rollout.world import DAWN, World

from dspy_operator.api.names import Command
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Phase,
    Rejected,
    Rollout,
    RolloutRecord,
)

HALF_AN_HOUR = 1800.0


def begin() -> Teller:
    """Revision a serves; z was promoted before it, r was rejected."""
    teller = Teller()
    teller.start("a")
    world = teller.world
    world.revisions["z"] = build_program("z")
    world.archived.add("z" * 64)
    done = RolloutRecord(phase=Phase.PROMOTED, outcome=Phase.PROMOTED)
    world.rollouts["a-1"] = Rollout(
        "a-1",
        "uid-0",
        build_program("z"),
        build_program("a"),
        fast=False,
        plan=world.plan,
        record=done,
        created_at=0,
    )
    world.deployment = replace(world.deployment, rejected=(Rejected("r", "EvidenceOfRegression", "then"),))
    return teller


def reach(phase: str) -> Teller:
    """An attempt to revision b in this phase, stopped right after the write that began it."""
    teller = begin()
    if phase == "Idle":
        return teller
    if phase in {"RollingBack", "RolledBack"}:
        teller.world.scores["b"] = 0.5
    teller.apply("b")
    wanted = Phase(phase)
    if wanted is Phase.PREPARING:
        teller.wait_until(lambda world: is_at(world, wanted) and world.rollouts["b-1"].record.number > 0)
    else:
        teller.wait_for(wanted, effective=wanted in {Phase.STEPPING, Phase.BAKING})
    return teller


def summarize(teller: Teller) -> str:
    world = teller.world
    attempts = [f"{name} {r.record.phase}" for name, r in world.rollouts.items() if name != "a-1"]
    stable = world.deployment.stable
    rejected = "".join(entry.revision for entry in world.deployment.rejected) or "nothing"
    return (
        f"{', '.join(attempts) or 'no attempt'}; {stable and stable.revision} is stable, {rejected} rejected"
    )


# --- events -----------------------------------------------------------------------------------------------------


def say(command: Command) -> Callable[[Teller], None]:
    return lambda teller: teller.order(command)


def ask_for(letter: str) -> Callable[[Teller], None]:
    return lambda teller: teller.apply(letter)


def ask_in_the_queue(teller: Teller) -> None:
    teller.world.queue = True
    teller.apply("c")


def turn_bad(teller: Teller) -> None:
    teller.world.scores["b"] = 0.3


def lose_prometheus(teller: Teller) -> None:
    teller.world.prometheus = False


def delete_record(teller: Teller) -> None:
    teller.world.rollouts.pop("b-1", None)


def wipe_record(teller: Teller) -> None:
    rollout = teller.world.rollouts.get("b-1")
    if rollout:
        teller.world.rollouts["b-1"] = replace(rollout, record=RolloutRecord())


def delete_revision(teller: Teller) -> None:
    teller.world.revisions.pop("b", None)


def delete_table(teller: Teller) -> None:
    teller.world.table = None


def take_over(teller: Teller) -> None:
    teller.world.epoch += 1
    teller.world.forget()


def pause_in_the_spec(teller: Teller) -> None:
    teller.world.paused = True


FORWARD = ("Preparing", "Stepping", "Promoting", "Baking")
PHASES = ("Idle", *FORWARD, "RollingBack", "RolledBack", "Promoted")
GOES_ON = "b-1 Promoted; b is stable, nothing rejected"
FAILED = "b-1 RolledBack; a is stable, rb rejected"
UNTOUCHED = "no attempt; a is stable, r rejected"
ABORTED = "b-1 Aborted; a is stable, rb rejected"
SUPERSEDED = "b-1 Superseded; a is stable, r rejected"
LOST = "no attempt; a is stable, rb rejected"


def in_all(text: str, **others: str) -> dict[str, str]:
    """The same in every forward phase; Idle, RollingBack, RolledBack and Promoted as they are without the event."""
    usual = {"Idle": UNTOUCHED, "RollingBack": FAILED, "RolledBack": FAILED, "Promoted": GOES_ON}
    return {**dict.fromkeys(FORWARD, text), **usual, **others}


EVENTS: dict[str, tuple[Callable[[Teller], None], dict[str, str]]] = {
    "a new revision": (
        ask_for("c"),
        in_all(
            "b-1 Superseded, c-1 Promoted; c is stable, nothing rejected",
            Idle="c-1 Promoted; c is stable, nothing rejected",
            RollingBack="b-1 RolledBack, c-1 Promoted; c is stable, nothing rejected",
            RolledBack="b-1 RolledBack, c-1 Promoted; c is stable, nothing rejected",
            Promoted="b-1 Promoted, c-1 Promoted; c is stable, nothing rejected",
        ),
    ),
    "a new revision, queued": (
        ask_in_the_queue,
        in_all(
            "b-1 Promoted, c-1 Promoted; c is stable, nothing rejected",
            Idle="c-1 Promoted; c is stable, nothing rejected",
            RollingBack="b-1 RolledBack, c-1 Promoted; c is stable, nothing rejected",
            RolledBack="b-1 RolledBack, c-1 Promoted; c is stable, nothing rejected",
            Promoted="b-1 Promoted, c-1 Promoted; c is stable, nothing rejected",
        ),
    ),
    "the spec goes back to stable": (
        ask_for("a"),
        in_all(SUPERSEDED, Promoted="b-1 Promoted, a-2 Promoted; a is stable, nothing rejected"),
    ),
    "the spec asks for a rejected revision": (
        ask_for("r"),
        in_all(SUPERSEDED, Promoted="b-1 Promoted, r-1 Promoted; r is stable, nothing rejected"),
    ),
    "abort": (say(Command.ABORT), in_all(ABORTED)),
    "undo": (
        say(Command.UNDO),
        in_all(
            ABORTED,
            Idle="z-1 Promoted; z is stable, a rejected",
            Promoted="b-1 Promoted, a-2 Promoted; a is stable, b rejected",
        ),
    ),
    "retry": (
        say(Command.RETRY),
        in_all(
            GOES_ON,
            RollingBack="b-1 RolledBack, b-2 RolledBack; a is stable, rb rejected",
            RolledBack="b-1 RolledBack, b-2 RolledBack; a is stable, rb rejected",
        ),
    ),
    "promote": (say(Command.PROMOTE), in_all(GOES_ON)),
    "promote-full": (say(Command.PROMOTE_FULL), in_all(GOES_ON)),
    "pause": (
        say(Command.PAUSE),
        {
            **in_all(""),
            "Preparing": "b-1 Preparing; a is stable, r rejected",
            "Stepping": "b-1 Stepping; a is stable, r rejected",
            "Promoting": "b-1 Promoting; a is stable, r rejected",
            "Baking": "b-1 Baking; a is stable, r rejected",
        },
    ),
    "spec.paused": (
        pause_in_the_spec,
        {
            **in_all(""),
            "Preparing": "b-1 Preparing; a is stable, r rejected",
            "Stepping": "b-1 Stepping; a is stable, r rejected",
            "Promoting": "b-1 Promoting; a is stable, r rejected",
            "Baking": "b-1 Baking; a is stable, r rejected",
        },
    ),
    "the canary turns bad": (turn_bad, in_all(FAILED)),
    "Prometheus goes away": (
        lose_prometheus,
        in_all(
            "",
            Preparing="b-1 Preparing; a is stable, r rejected",
            Stepping="b-1 Stepping; a is stable, r rejected",
            Promoting="b-1 Baking; a is stable, r rejected",
            Baking="b-1 Baking; a is stable, r rejected",
        ),
    ),
    "the attempt's record is deleted": (
        delete_record,
        in_all(LOST, RollingBack=LOST, RolledBack=LOST, Promoted=LOST),
    ),
    "the attempt's record is wiped": (
        wipe_record,
        in_all(ABORTED, Preparing=GOES_ON, RollingBack=ABORTED, RolledBack=ABORTED, Promoted=ABORTED),
    ),
    "the canary's ControllerRevision is deleted": (delete_revision, in_all(GOES_ON)),
    "the routing table is deleted": (delete_table, in_all(GOES_ON)),
    "another operator takes over": (take_over, in_all(GOES_ON)),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_ends_each_phase_as_the_table_says(event: str, phase: str) -> None:
    happen, cells = EVENTS[event]
    teller = reach(phase)
    teller.say(event)
    happen(teller)
    teller.wait(HALF_AN_HOUR)
    assert summarize(teller) == cells[phase], "\n".join(teller.lines)


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


def list_phases(world: World) -> list[tuple[str, int, float]]:
    return [(e.phase, e.step, e.at - DAWN) for e in world.rollouts["b-1"].record.entries]


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
