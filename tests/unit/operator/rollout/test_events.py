"""Every event in every phase: what an attempt to revision b ends as, what opens afterwards, what is stable then.

Stable is a, the last promoted one before it z, and revision r is rejected. After the event half an hour passes.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.operator.rollout.scenes import (
    ABORTED,
    FAILED,
    FORWARD,
    GOES_ON,
    HALF_AN_HOUR,
    LOST,
    PHASES,
    SUPERSEDED,
    UNTOUCHED,
    reach,
    summarize,
)
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.rollout.model import RolloutRecord

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
