"""A change of what the pods run, without a gateway: pods of the canary's own, and their number is the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import (
    NAME,
    build_step,
    build_story,
    build_strategy,
    with_artifact,
    with_environment,
)

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

STRATEGY = build_strategy(steps=(build_step(25), build_step(50), {"weight": 100}))


@pytest.fixture(scope="module")
def before(world: World) -> set[str]:
    """Four pods before; then a variable of their environment changes, and the artifact with it."""
    spec = build_story(world.namespace, world.artifacts["v1"], STRATEGY)
    spec["spec"]["replicas"] = 4
    world.apply(spec)
    world.wait_until_settled("v1")
    world.start_traffic()
    identities = set(world.get_identities())
    world.apply(with_artifact(with_environment(world.spec, RELEASE="2"), world.artifacts["v2"]))
    return identities


@pytest.fixture(scope="module")
def promoted(world: World, before: set[str]) -> Rollout:
    assert len(before) == 4
    rollout = world.wait_for_end("v2", "Promoted", 300)
    world.wait_until_settled("v2")
    return rollout


def test_a_new_environment_is_promoted_through_its_steps(promoted: Rollout) -> None:
    assert promoted.list_phases() == [
        *("Preparing", "Stepping 1", "Stepping 2", "Promoting", "Baking", "Promoted"),
    ]


def test_the_old_pods_are_gone_and_the_new_ones_were_not_restarted(
    world: World, before: set[str], promoted: Rollout
) -> None:
    assert promoted.phase == "Promoted"
    world.wait("the old pods are gone", lambda _: len(world.list_pods()) == 4, 60)
    assert not before & set(world.get_identities())
    assert set(world.get_identities().values()) == {0}


def test_no_request_failed(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    assert world.traffic.assert_none_failed() > 500


def test_an_artifact_after_it_shares_the_pods_again(world: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    identities = world.get_identities()
    world.set_artifact("v2-minus2")
    world.wait_until_settled("v2-minus2", 240)
    assert world.get_identities() == identities


def test_an_undo_brings_the_environment_before_back(world: World, promoted: Rollout) -> None:
    identities = set(world.get_identities())
    world.dspy("undo", NAME, "--to", promoted.from_revision)
    world.wait("the first environment serves", lambda d: d.stable_revision == promoted.from_revision, 240)
    world.wait("its pods alone", lambda _: len(world.list_pods()) == 4, 60)
    assert not identities & set(world.get_identities())
    world.traffic.assert_none_failed()
