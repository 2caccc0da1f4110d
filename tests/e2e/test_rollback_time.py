"""From the verdict to weight 0 in every pod, twenty times over, and the literal rule that gives these verdicts.

`mode: Threshold` decides on the estimate alone, so that an attempt at the worse artifact ends within seconds.
The verdict's moment is the record's; the moment of its effect is what each pod itself reports.
"""

from __future__ import annotations

import os
import re
from statistics import median
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.pods import wait_for_weight_zero
from tests.e2e.harness.specs import LATENCY, NAME, SCORE, build_step, build_strategy

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

TIMES = 20
GOAL_MEDIAN, GOAL_MAXIMUM, LIMIT = 0.5, 2.0, 15.0
QUICK_SCORE = SCORE | {"minSamples": 30}
STRATEGY = build_strategy(
    steps=(build_step(50, minDuration="20m", minSamples=30, deadline="1h"), {"weight": 100}),
    metrics=(QUICK_SCORE, LATENCY),
    mode="Threshold",
)


@pytest.fixture(scope="module")
def forced(world: World) -> list[tuple[Rollout, float]]:
    """Twenty attempts at v3 with the seconds from verdict to effect."""
    world.start("v2", STRATEGY)
    found: list[tuple[Rollout, float]] = []
    world.set_artifact("v3")
    for attempt in range(1, TIMES + 1):
        if attempt > 1:
            world.dspy("retry", NAME)
        rollout = world.wait_for_rollout(
            "v3", "is judged", lambda r: r.find_entry("RollingBack") or r.is_over, 120, attempt=attempt
        )
        verdict = rollout.get_entry("RollingBack").at
        found.append((rollout, wait_for_weight_zero(world, verdict) - verdict))
        world.wait("the attempt closed", lambda d: not d.canary and d.get("Stalled").status == "True", 60)
    return found


def test_twenty_rollbacks_reach_every_pod_within_the_goal(
    forced: list[tuple[Rollout, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [taken for _, taken in forced]
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    with capsys.disabled():
        print(
            f"\nverdict to weight 0 in every pod, {len(seconds)} times: median {median(seconds):.2f} s, "
            f"maximum {max(seconds):.2f} s (load {load:.1f} a core)"
        )
    assert len(seconds) == TIMES
    assert median(seconds) <= (GOAL_MEDIAN if load < 1 else 2 * GOAL_MEDIAN)
    assert max(seconds) <= (GOAL_MAXIMUM if load < 1 else LIMIT)


def test_in_threshold_mode_the_literal_5_percent_rule_decides(forced: list[tuple[Rollout, float]]) -> None:
    for rollout, _ in forced:
        verdict = rollout.get_entry("RollingBack")
        measured = re.search(r"score -(\d+\.\d) % on (\d+) of 30 samples", verdict.message)
        assert verdict.reason == "ThresholdViolated"
        assert measured is not None, verdict.message
        assert float(measured[1]) >= 5
        assert int(measured[2]) >= 30


def test_no_request_failed_and_no_pod_restarted_in_twenty_rollbacks(
    world: World, forced: list[tuple[Rollout, float]]
) -> None:
    assert forced
    assert set(world.get_identities().values()) == {0}
    assert len(world.get_identities()) == 2
    world.traffic.assert_none_failed()
