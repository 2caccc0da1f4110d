"""Commands: which is pending, which wins, which is remembered."""

from dataclasses import replace

import pytest
from tests.unit.operator.rollout.plans import build_program
from tests.unit.operator.rollout.world import DAWN, World

from dspy_operator.api.names import Command
from dspy_operator.reconcile.commands import list_orders
from dspy_operator.rollout.model import DeploymentRecord, Observation, Order, RolloutRecord
from dspy_operator.rollout.orders import (
    KEPT,
    build_handled,
    find_order,
    find_undo_revision,
    is_held_by_a_person,
    merge_handled,
)

EARLY, LATE = "2026-11-23T10:00:00Z", "2026-11-23T10:00:00.500Z"


def build_order(command: Command, at: float, argument: str = "") -> Order:
    return Order(command, f"nonce-{at}", at, argument)


def build_seen(*orders: Order) -> Observation:
    return Observation(now=DAWN, epoch=1, name="triage", orders=orders)


def test_the_latest_order_of_the_asked_ones_is_found() -> None:
    orders = build_order(Command.ABORT, 3), build_order(Command.PROMOTE, 9), build_order(Command.UNDO, 5)
    assert find_order(build_seen(*orders), Command.ABORT, Command.UNDO) == orders[2]
    assert find_order(build_seen(*orders), Command.RETRY) is None


def test_sixteen_nonces_of_each_command_are_remembered_the_newest_last() -> None:
    orders = [build_order(Command.ABORT, at) for at in range(20)] + [build_order(Command.PROMOTE, 1)]
    handled = build_handled({}, orders)
    assert handled[Command.ABORT] == tuple(f"nonce-{at}" for at in range(4, 20))
    assert handled[Command.PROMOTE] == ("nonce-1",)
    assert len(build_handled(handled, [build_order(Command.ABORT, 5)])[Command.ABORT]) == KEPT


def test_two_histories_are_joined_in_the_order_of_their_times() -> None:
    one = {Command.PAUSE: (LATE,), Command.ABORT: ("2026-01-01T00:00:00Z",)}
    joined = merge_handled(one, {Command.PAUSE: (EARLY,)})
    assert joined == {Command.PAUSE: (EARLY, LATE), Command.ABORT: ("2026-01-01T00:00:00Z",)}


@pytest.mark.parametrize(
    ("paused", "resumed", "held"),
    [
        ((), (), False),
        ((EARLY,), (), True),
        ((EARLY,), (LATE,), False),
        ((LATE,), (EARLY,), True),
        ((EARLY,), (EARLY,), False),
        (("2026-11-23T12:00:00+02:00",), (LATE,), False),
        (("2026-11-23T12:00:01+02:00",), (LATE,), True),
    ],
)
def test_the_later_of_pause_and_resume_wins(
    paused: tuple[str, ...], resumed: tuple[str, ...], *, held: bool
) -> None:
    record = DeploymentRecord(handled={Command.PAUSE: paused})
    rollout = RolloutRecord(handled={Command.RESUME: resumed})
    assert is_held_by_a_person(record, rollout) is held


def test_an_annotation_is_an_order_until_its_nonce_was_handled() -> None:
    annotations = {Command.ABORT.annotation: EARLY, Command.UNDO.annotation: f"{LATE}/a"}
    orders = list_orders(annotations, DeploymentRecord(), None)
    assert [(order.command, order.nonce, order.argument) for order in orders] == [
        (Command.ABORT, EARLY, ""),
        (Command.UNDO, LATE, "a"),
    ]
    record = DeploymentRecord(handled={Command.ABORT: (EARLY,), Command.UNDO: (LATE,)})
    assert list_orders(annotations, record, None) == ()


@pytest.mark.parametrize(
    "value", ["", "now", "2026-11-23", "2026-11-23T10:00:00", "x" * 100, f"{EARLY}{' ' * 60}"]
)
def test_what_is_no_time_is_no_command(value: str) -> None:
    assert list_orders({Command.ABORT.annotation: value}, DeploymentRecord(), None) == ()


def test_an_argument_means_something_to_undo_only() -> None:
    (order,) = list_orders({Command.ABORT.annotation: f"{EARLY}/b"}, DeploymentRecord(), None)
    assert order.argument == ""


def build_world_with_a_past() -> Observation:
    world = World()
    programs = build_program("a"), build_program("b"), build_program("c"), build_program("d", "w2")
    world.revisions = {program.revision: program for program in programs}
    seen = world.observe()
    record = replace(seen.record, stable=None)
    return replace(seen, record=record, previous=("d-w2", "b", "c", "gone"))


def with_stable(seen: Observation) -> Observation:
    world = World()
    world.target = build_program("a")
    _, decision = world.make_pass()
    while decision.deployment is None:
        _, decision = world.make_pass()
    return replace(seen, record=decision.deployment)


@pytest.mark.parametrize(
    ("argument", "revision"),
    [("", "d-w2"), ("c", "c"), ("b", "b"), ("d-w2", "d-w2"), ("gone", None), ("a", None)],
)
def test_undo_goes_to_a_kept_revision_of_any_workload(argument: str, revision: str | None) -> None:
    seen = with_stable(build_world_with_a_past())
    assert find_undo_revision(seen, build_order(Command.UNDO, 1, argument)) == revision


def test_undo_goes_nowhere_before_there_is_a_stable_revision() -> None:
    assert find_undo_revision(build_world_with_a_past(), build_order(Command.UNDO, 1)) is None
