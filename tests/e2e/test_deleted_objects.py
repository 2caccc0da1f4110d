"""Somebody deletes what the operator made, in mid-rollout: it all comes back, and no request fails on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.specs import NAME, build_step, build_strategy
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HELD = (build_step(10, minDuration="20m", deadline="1h"), {"weight": 100})
MANAGED = "app.kubernetes.io/managed-by=dspy-operator"
SECONDS = 60


@pytest.fixture(scope="module")
def held(world: World) -> Rollout:
    """v2 at 10 %, for long."""
    world.start("v1", build_strategy(steps=HELD))
    world.set_artifact("v2")
    return world.wait_for_step("v2", 1)


def list_children(world: World, kind: str) -> dict[str, Object]:
    found = world.api.list_(kind, world.namespace, MANAGED)
    return {child["metadata"]["name"]: child for child in found}


def test_a_deleted_routing_table_comes_back_with_the_same_split(world: World, held: Rollout) -> None:
    since = world.traffic.get_stats()["now"]
    world.delete_and_wait("ConfigMap", f"{NAME}-routes", SECONDS)
    wait_for("answers", lambda: world.traffic.get_split(since, since + 20).total > 350, 60)
    world.traffic.get_split(since, since + 20).assert_share(held.revision, 10)
    world.traffic.assert_none_failed()


def test_every_deleted_program_object_comes_back(world: World, held: Rollout) -> None:
    names = [name for name in list_children(world, "ConfigMap") if "-slot-" in name or "-program-" in name]
    assert len(names) >= 4, "three slots and the archive"
    for name in names:
        before = world.api.get("ConfigMap", world.namespace, name)
        after = world.delete_and_wait("ConfigMap", name, SECONDS)
        keys = ("data", "binaryData")
        assert [after.get(k) for k in keys] == [before.get(k) for k in keys], name
    now = world.find_rollout("v2")
    assert now is not None
    assert (now.name, now.phase, now.weight) == (held.name, "Stepping", 10)
    world.traffic.assert_none_failed()


def test_the_deleted_copy_of_the_code_and_the_deleted_budget_come_back(world: World, held: Rollout) -> None:
    assert held.step == 1
    copies = [name for name in list_children(world, "ConfigMap") if "-source-" in name]
    assert len(copies) == 1
    world.delete_and_wait("ConfigMap", copies[0], SECONDS)
    world.delete_and_wait("PodDisruptionBudget", NAME, SECONDS)
    world.traffic.assert_none_failed()


def test_a_deleted_pod_is_replaced_and_the_new_one_splits_too(world: World, held: Rollout) -> None:
    victim = world.list_pods()[0]
    uid = victim["metadata"]["uid"]
    world.api.delete("Pod", world.namespace, victim["metadata"]["name"])

    def is_replaced() -> bool:
        pods = world.list_pods()
        return len(pods) == 2 and all(is_ready(p) and p["metadata"]["uid"] != uid for p in pods)

    wait_for("two ready pods", is_replaced, SECONDS, tell=world.tell)
    since = world.traffic.get_stats()["now"] + 2
    wait_for("answers", lambda: world.traffic.get_split(since, since + 20).total > 350, 60)
    world.traffic.get_split(since, since + 20).assert_share(held.revision, 10)
    world.traffic.assert_none_failed()


def test_the_rollout_goes_on_as_if_nothing_had_happened(world: World, held: Rollout) -> None:
    world.dspy("promote", NAME)
    promoted = world.wait_for_end("v2", "Promoted", 120)
    assert promoted.uid == held.uid
    world.wait_until_settled("v2")
    world.traffic.assert_none_failed()


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_a_deleted_service_or_deployment_comes_back(world: World, held: Rollout, kind: str) -> None:
    """Clients cannot be served without these: they come back, and nothing is promised about requests meanwhile."""
    assert held.name
    world.traffic.set_rate(0)
    for name in list_children(world, kind):
        world.delete_and_wait(kind, name, SECONDS)
    world.wait_until_settled("v2")
    world.start_traffic()
