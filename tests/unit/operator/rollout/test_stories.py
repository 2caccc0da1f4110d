"""Whole rollouts as text that people can read: `UPDATE_GOLDEN=1 pytest …` writes it anew, git shows what changed.

A line is a decision: when, phase, step and weight of the attempt, what is written (D the deployment's record, R the
attempt's, T the routing table, V a ControllerRevision), the reason, `!` an Event, and the sentence for people.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.operator.rollout import (
    stories_of_faults,
    stories_of_gates,
    stories_of_own_pods,
    stories_of_people,
    stories_of_rollouts,
)
from tests.unit.operator.rollout.telling import Teller

GOLDEN = Path(__file__).parent / "stories"
STORIES: dict[str, Callable[[Teller], None]] = {
    **stories_of_rollouts.STORIES,
    **stories_of_people.STORIES,
    **stories_of_faults.STORIES,
    **stories_of_gates.STORIES,
    **stories_of_own_pods.STORIES,
}


def assert_golden(name: str, lines: list[str]) -> None:
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


def tell(name: str, *, kill: bool = False) -> Teller:
    teller = Teller(kill=kill)
    STORIES[name](teller)
    teller.settle()
    return teller


@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_told_as_written(name: str) -> None:
    teller = tell(name)
    assert_golden(name, teller.lines)


def test_every_text_has_its_story() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(STORIES)


@pytest.mark.parametrize("name", STORIES)
def test_an_operator_killed_at_every_pass_tells_the_same_story(name: str) -> None:
    calm, killed = tell(name), tell(name, kill=True)
    assert list_ends(killed) == list_ends(calm)
    assert list_steps(killed) == list_steps(calm)


def list_ends(teller: Teller) -> list[object]:
    """What is left when all is calm."""
    world = teller.world
    stable = world.deployment.stable
    return [
        stable and stable.revision,
        [entry.revision for entry in world.deployment.rejected],
        world.table and world.table.split,
        {name: rollout.record.phase for name, rollout in world.rollouts.items()},
        sorted(world.revisions),
    ]


def list_steps(teller: Teller) -> list[object]:
    """Every decision of every attempt."""
    return [
        (name, entry.phase, entry.step, entry.weight, entry.reason)
        for name, rollout in teller.world.rollouts.items()
        for entry in rollout.record.entries
    ]
