"""Looks bear Prometheus' time, records the API server's: whole rollouts do not change when the two differ."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.operator.rollout.plans import build_plan
from tests.unit.operator.rollout.scenes import list_phases
from tests.unit.operator.rollout.telling import Teller

from dspy_operator.api.names import Command
from dspy_operator.rollout.judging import OnDeadline
from dspy_operator.rollout.model import Phase, Plan

Story = Callable[[float], list[tuple[str, int, float]]]
SKEWS = [-7200.0, 7200.0]


def begin(skew: float, plan: Plan | None = None) -> Teller:
    """Revision a serves and b was applied, with Prometheus' clock `skew` seconds ahead."""
    teller = Teller()
    teller.world.skew = skew
    teller.world.plan = plan or teller.world.plan
    teller.start()
    teller.apply("b")
    return teller


def pause_and_resume(skew: float) -> list[tuple[str, int, float]]:
    teller = begin(skew, build_plan(on_deadline=OnDeadline.ROLLBACK))
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.order(Command.PAUSE)
    teller.wait(300)
    teller.order(Command.RESUME)
    teller.wait_for_the_end()
    return list_phases(teller.world)


def meet_a_blind_deadline(skew: float) -> list[tuple[str, int, float]]:
    teller = begin(skew, build_plan(on_deadline=OnDeadline.ROLLBACK))
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.prometheus = False
    teller.wait_for_the_end()
    return list_phases(teller.world)


def bake_a_fast_attempt(skew: float) -> list[tuple[str, int, float]]:
    teller = begin(skew)
    teller.wait_for_the_end()
    teller.world.now += 1
    teller.order(Command.UNDO)
    teller.wait_for(Phase.BAKING)
    teller.wait(20)
    teller.order(Command.PAUSE)
    teller.wait(300)
    teller.order(Command.RESUME)
    teller.wait_for_the_end()
    back = teller.world.rollouts["a-1"]
    teller.world.rollouts["b-1"] = replace(back, name="b-1")
    return list_phases(teller.world)


def promote_blindly(skew: float) -> list[tuple[str, int, float]]:
    """The table's arrival at 100 % is only presumed."""
    teller = begin(skew)
    teller.wait_for(Phase.PROMOTING)
    teller.world.prometheus = False
    teller.wait(600)
    teller.world.prometheus = True
    teller.wait_for_the_end()
    return list_phases(teller.world)


def tell_of_missing_evidence(skew: float) -> list[tuple[str, int, float]]:
    teller = begin(skew)
    teller.wait_for(Phase.STEPPING, 1, effective=True)
    teller.world.requests = 0.0
    teller.wait(600)
    told = [line.split("s ")[0] for line in teller.lines if "!EvidenceMissing" in line]
    return [("told", len(told), float(told[0]))]


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize(
    "story",
    [
        pause_and_resume,
        meet_a_blind_deadline,
        bake_a_fast_attempt,
        promote_blindly,
        tell_of_missing_evidence,
    ],
    ids=lambda story: story.__name__,
)
def test_a_rollout_is_the_same_whatever_prometheus_clock_says(story: Story, skew: float) -> None:
    assert story(skew) == story(0.0)
