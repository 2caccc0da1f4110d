"""Prometheus stops in mid-rollout: what cannot be measured is neither good nor bad, so nothing moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.waiting import wait_for, watch_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.harness.installation import Installation
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

pytestmark = pytest.mark.alone

BLIND_SECONDS = 20


@pytest.fixture(scope="module")
def blind(world: World, installation: Installation) -> Iterator[Rollout]:
    """v2 at 10 %, and no Prometheus."""
    world.start("v1")
    world.set_artifact("v2")
    rollout = world.wait_for_step("v2", 1)
    installation.scale_prometheus(0)
    yield rollout
    installation.scale_prometheus(1)


def test_while_prometheus_is_away_nothing_moves(world: World, blind: Rollout) -> None:
    def is_still() -> bool:
        now = world.find_rollout("v2")
        return now is not None and (now.phase, now.step, now.weight) == ("Stepping", 1, 10)

    watch_for("v2 at 10 %", is_still, BLIND_SECONDS)
    assert world.watch.list_states(blind.name)


def test_the_conditions_say_why_nothing_moves(world: World, blind: Rollout) -> None:
    assert blind.step == 1
    deployment = world.wait("a condition that names Prometheus", lambda d: "rometheus" in str(d), 60)
    assert deployment.get("Ready").status == "Unknown"
    assert "rometheus" in deployment.message or "rometheus" in deployment.get("AnalysisPassed").message


def test_when_prometheus_is_back_the_rollout_goes_on_to_its_end(
    world: World, installation: Installation, blind: Rollout
) -> None:
    installation.scale_prometheus(1)
    rollout = world.wait_for_end("v2", "Promoted", 240)
    assert rollout.name == blind.name
    assert rollout.list_phases()[:3] == ["Preparing", "Stepping 1", "Stepping 2"]
    world.wait_until_settled("v2")


def test_no_request_failed_while_nobody_measured(world: World, blind: Rollout) -> None:
    assert blind.name
    wait_for("traffic", lambda: world.traffic.get_answered() > 500, 60)
    world.traffic.assert_none_failed()
