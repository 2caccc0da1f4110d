"""The operator dies of SIGKILL ten times in one rollout: same steps, same end, no dwell shortened, no request lost."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.killing import get_holder, kill_operator, wait_for_successor
from tests.e2e.harness.specs import build_step, build_strategy

if TYPE_CHECKING:
    from tests.e2e.harness.installation import Installation
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

TIMES, SEED = 10, 20
LONGEST_LIFE = 5.0  # seconds between a successor's first write and its own end
DWELL = 25
STEPS = (build_step(10, minDuration=f"{DWELL}s"), build_step(50, minDuration=f"{DWELL}s"), {"weight": 100})


@pytest.fixture(scope="module")
def survived(world: World, installation: Installation) -> Rollout:
    """The attempt at v2, ended, after ten deaths."""
    world.start("v1", build_strategy(steps=STEPS))
    world.set_artifact("v2")
    moments = random.Random(SEED)
    recoveries = []
    for death in range(TIMES):
        time.sleep(moments.uniform(0, LONGEST_LIFE))
        rollout = world.find_rollout("v2")
        assert rollout is None or not rollout.is_over, (
            f"it ended before death {death + 1}: make the dwell longer"
        )
        former = get_holder(installation)
        kill_operator(installation)
        recoveries.append(wait_for_successor(installation, former))
    print(f"\nfrom SIGKILL to a successor with the Lease: {[round(r, 1) for r in recoveries]} s")
    return world.wait_for_end("v2", "Promoted", 300)


def test_the_rollout_takes_the_same_steps_to_the_same_end(world: World, survived: Rollout) -> None:
    assert survived.list_phases() == [
        *("Preparing", "Stepping 1", "Stepping 2", "Promoting", "Baking", "Promoted"),
    ]
    assert survived.attempt == 1
    assert [r.name for r in world.list_rollouts()] == [survived.name]
    world.wait_until_settled("v2")


def test_every_decision_is_on_record_once(survived: Rollout) -> None:
    numbers = [entry.number for entry in survived.entries]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("step", [1, 2])
def test_no_dwell_was_shortened(world: World, survived: Rollout, step: int) -> None:
    effective = world.watch.find_effective_at(survived.name, step)
    following = survived.get_entry("Stepping", 2) if step == 1 else survived.get_entry("Promoting")
    assert effective is not None
    assert following.at - effective >= DWELL


def test_no_request_failed_and_no_serving_pod_noticed(world: World, survived: Rollout) -> None:
    assert survived.is_over
    assert list(world.get_identities().values()) == [0, 0]
    assert world.traffic.assert_none_failed() > 500
