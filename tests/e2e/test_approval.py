"""A step with `approval: Manual` opens its gate and waits for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import NAME, build_step, build_strategy
from tests.e2e.harness.waiting import watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

STEPS = (build_step(50, approval="Manual", deadline="30s"), {"weight": 100})


@pytest.fixture(scope="module")
def waiting(world: World) -> Rollout:
    """v2 with its gate open."""
    world.start("v1", build_strategy(steps=STEPS))
    world.set_artifact("v2")
    return world.wait_for_rollout("v2", "awaits a person", lambda r: r.status.get("awaitingPromotion"), 240)


def test_a_step_with_manual_approval_waits_however_good_the_evidence(world: World, waiting: Rollout) -> None:
    def is_waiting() -> bool:
        now = world.find_rollout("v2")
        return now is not None and (now.phase, now.weight) == ("Stepping", 50)

    watch_for("v2 at 50 %", is_waiting, 32)
    assert waiting.step == 1


def test_while_it_waits_the_status_says_for_whom(world: World, waiting: Rollout) -> None:
    assert waiting.weight == 50
    deployment = world.get()
    assert deployment.get("Paused").status == "True"
    assert deployment.get("Paused").reason == "AwaitingPromotion"
    assert "AwaitingPromotion" in world.list_event_reasons()
    world.dspy("status", NAME, expect=2)


def test_promote_lets_it_go_on(world: World, waiting: Rollout) -> None:
    world.dspy("promote", NAME)
    promoted = world.wait_for_end("v2", "Promoted", 90)
    assert promoted.name == waiting.name
    world.wait_until_settled("v2")
    world.traffic.assert_none_failed()
