"""Nobody asks: zero samples promote nothing and condemn nothing, and at the deadline a policy speaks, not a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import build_step, build_strategy
from tests.e2e.harness.waiting import watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

DEADLINE = 25


@pytest.fixture(scope="module")
def silent(world: World) -> Rollout:
    """v2 at 10 % of nothing; its deadline rolls back."""
    step = build_step(10, deadline=f"{DEADLINE}s")
    strategy = build_strategy(steps=(step, {"weight": 100}), onDeadline="Rollback")
    world.apply_story("v1", strategy)
    world.wait_until_settled("v1")
    world.set_artifact("v2")
    return world.wait_for_step("v2", 1)


def test_without_traffic_nothing_is_promoted_and_nothing_rolled_back_before_the_deadline(
    world: World, silent: Rollout
) -> None:
    effective = silent.weight_effective_at
    assert effective is not None

    def is_held() -> bool:
        now = world.find_rollout("v2")
        return now is not None and (now.phase, now.step, now.weight) == ("Stepping", 1, 10)

    watch_for("v2 at 10 %", is_held, DEADLINE - 10)
    assert world.get().get("Ready").status == "Unknown"
    assert world.traffic.get_stats()["total"]["sent"] == 0


def test_the_status_says_that_there_is_no_evidence(world: World, silent: Rollout) -> None:
    assert silent.step == 1
    deployment = world.get()
    told = f"{deployment.message} {deployment.get('AnalysisPassed').message}".lower()
    assert "no evidence" in told, told


def test_at_the_deadline_its_policy_decides_and_the_record_says_that_there_were_no_data(
    world: World, silent: Rollout
) -> None:
    effective = silent.weight_effective_at
    rollout = world.wait_for_end("v2", "RolledBack", DEADLINE + 30)
    verdict = rollout.get_entry("RollingBack")
    assert effective is not None
    assert verdict.at >= effective + DEADLINE - 0.5
    assert "eadline" in f"{verdict.reason} {verdict.message}"
    assert world.get().stable == world.artifacts["v1"].version
