"""A quota lets no pod be made: a condition says so in the words of the API server, and what serves serves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.own_pods import allow_pods, count_pods
from tests.e2e.harness.specs import ERRORS, NAME, build_strategy, with_environment, with_strategy
from tests.e2e.harness.waiting import watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Deployment
    from tests.e2e.harness.world import World

# Each story goes on where the one before it ended.


def build_update(obj: Object) -> Object:
    """Another workload, sent everything at once: two pods come near no other weight."""
    strategy = build_strategy(steps=({"weight": 100},), metrics=(ERRORS,))
    changed = with_strategy(with_environment(obj, COLOUR="blue"), strategy)
    changed["spec"]["traffic"]["approximation"] = "Allow"
    return changed


def wait_for_denial(world: World) -> Deployment:
    denied = world.wait("the denial told", lambda d: d.get("Stalled").reason == "QuotaExceeded", 60)
    assert denied.get("Stalled").status == "True"
    assert denied.get("Ready").status == "False"
    assert "exceeded quota: pods" in denied.get("Stalled").message
    return denied


@pytest.fixture(scope="module")
def denied(world: World) -> Deployment:
    """A first revision for which there is no room."""
    allow_pods(world, count_pods(world))
    world.apply_story("v1")
    return wait_for_denial(world)


def test_a_first_revision_without_room_says_what_the_api_server_says(denied: Deployment) -> None:
    assert denied.ready_replicas == 0
    assert denied.get("Available").status == "False"
    assert "0 of 2 pods are ready" in denied.message


def test_it_starts_by_itself_when_there_is_room(world: World, denied: Deployment) -> None:
    assert denied.stable == world.artifacts["v1"].version
    allow_pods(world, count_pods(world) + 2)
    world.wait_until_settled("v1")
    world.start_traffic()


def test_an_update_without_room_is_told_and_the_pods_that_there_are_serve_on(world: World) -> None:
    before = world.get_identities()
    world.apply(build_update(world.spec))
    wait_for_denial(world)
    watch_for("the pods as they were", lambda: world.get_identities() == before, 6)
    assert world.get().get("Available").status == "True"


def test_the_update_is_tried_again_when_there_is_room_and_no_request_fails(world: World) -> None:
    before = world.get_identities()
    allow_pods(world, count_pods(world) + 4)
    world.dspy("retry", NAME)
    world.wait(
        "the new pods",
        lambda d: (
            d.is_healthy and d.ready_replicas == 2 and not before.keys() & world.get_identities().keys()
        ),
    )
    assert world.traffic.assert_none_failed() > 100
