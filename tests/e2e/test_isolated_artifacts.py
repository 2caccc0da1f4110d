"""`traffic.isolation: Pod`: an artifact alone gets pods of its own, which are stable's when it is promoted."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.own_pods import (
    begin,
    get_workloads,
    list_pods_of,
    start_behind,
    wait_for_attempt,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import JUDGED, NAME, build_step, build_strategy

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HOST = "isolated.example"
STRATEGY = build_strategy(
    steps=(build_step(50), {"weight": 100}), metrics=JUDGED, mode="Threshold", bake="10s"
)
WALK = ["Preparing", "Stepping 1", "Promoting", "Baking", "Promoted"]


def with_isolation(spec: Object, isolation: str = "Pod") -> Object:
    changed = deepcopy(spec)
    changed["spec"]["traffic"]["isolation"] = isolation
    return changed


def list_uids(world: World, workload: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in list_pods_of(world, workload, ready=True)}


@pytest.fixture(scope="module")
def opened(world: World) -> Rollout:
    """v2, nothing but the artifact changed, at 50 %."""
    start_behind(world, "traefik", HOST, STRATEGY, change=with_isolation)
    return wait_until_effective(world, begin(world, lambda: world.set_artifact("v2")))


@pytest.fixture(scope="module")
def baking(world: World, opened: Rollout) -> tuple[set[str], set[str]]:
    """Pods of stable and of the canary in its bake."""
    wait_for_attempt(world, opened.name, "bakes", lambda r: r.phase == "Baking", 120)
    stable, canary = get_workloads(world, opened)
    return list_uids(world, stable), list_uids(world, canary)


def test_an_artifact_alone_has_pods_of_its_own(world: World, opened: Rollout) -> None:
    stable, canary = get_workloads(world, opened)
    assert stable != canary
    assert len(list_uids(world, stable)) == 2
    assert len(list_uids(world, canary)) >= 1
    images = {
        pod["spec"]["containers"][0]["image"]
        for workload in (stable, canary)
        for pod in list_pods_of(world, workload)
    }
    assert len(images) == 1


def test_the_pods_before_stay_for_the_bake(baking: tuple[set[str], set[str]]) -> None:
    before, after = baking
    assert len(before) == 2
    assert len(after) == 2


def test_the_pods_that_were_judged_are_stables_and_none_is_started_again(
    world: World, opened: Rollout, baking: tuple[set[str], set[str]]
) -> None:
    rollout = wait_until_over(world, opened.name, "Promoted", 120)
    assert rollout.list_phases() == WALK
    world.wait("the pods before are gone", lambda _: len(world.list_pods()) == 2, 60)
    assert world.get_identities() == dict.fromkeys(baking[1], 0)
    _, canary = get_workloads(world, rollout)
    selector = world.api.get("Service", world.namespace, f"{NAME}-stable")["spec"]["selector"]
    assert selector["dspy-operator.io/workload"] == canary


def test_with_isolation_auto_the_next_artifact_shares_them(world: World, opened: Rollout) -> None:
    world.wait_until_settled("v2")
    pods = world.get_identities()
    world.apply(with_isolation(world.spec, "Auto"))
    rollout = wait_until_over(world, begin(world, lambda: world.set_artifact("v2-minus2")), "Promoted", 180)
    assert len(set(get_workloads(world, rollout))) == 1
    assert world.get_identities() == pods
    assert rollout.from_revision == opened.revision
    assert world.traffic.assert_none_failed() > 1000
