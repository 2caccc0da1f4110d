"""`kubectl delete dspydeployment` in mid-rollout: over within 30 s, and nothing is left behind."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from tests.cluster.builds import tool
from tests.e2e.harness.specs import NAME, build_step, build_strategy
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HELD = (build_step(50, minDuration="20m", deadline="1h"), {"weight": 100})
KINDS = (
    *("DSPyDeployment", "DSPyRollout", "ConfigMap", "Service", "PodDisruptionBudget", "ControllerRevision"),
    *("Deployment", "ReplicaSet", "Pod"),
)
SECONDS = 30


@pytest.fixture(scope="module")
def held(world: World) -> Rollout:
    """v2 at 50 %, for long."""
    world.start("v1", build_strategy(steps=HELD))
    world.set_artifact("v2")
    return world.wait_for_step("v2", 1)


def list_left(world: World) -> list[str]:
    labels = f"app.kubernetes.io/instance={NAME}"
    own = ("DSPyDeployment", "DSPyRollout")
    return [
        f"{kind} {obj['metadata']['name']}"
        for kind in KINDS
        for obj in world.api.list_(kind, world.namespace, "" if kind in own else labels)
    ]


def test_deleting_it_in_mid_rollout_ends_within_30_seconds_and_leaves_nothing(
    world: World, held: Rollout
) -> None:
    assert held.weight == 50
    assert len(list_left(world)) > 10
    world.traffic.assert_none_failed()
    world.traffic.set_rate(0)
    kubeconfig = str(world.installation.cluster.kubeconfig)
    began = time.monotonic()
    command = [str(tool("kubectl")), "--kubeconfig", kubeconfig, "-n", world.namespace]
    subprocess.run([*command, "delete", "dspydeployment", NAME, f"--timeout={SECONDS}s"], check=True)
    left = SECONDS - (time.monotonic() - began)
    wait_for("nothing left", lambda: not list_left(world), left, tell=lambda: str(list_left(world)))


def test_what_the_user_made_is_still_there(world: World, held: Rollout) -> None:
    assert held.name
    assert world.api.find("ConfigMap", world.namespace, world.artifacts["v2"].config_map)
    assert world.api.find("Secret", world.namespace, "llm")


def test_the_same_name_can_be_used_again_and_begins_anew(world: World, held: Rollout) -> None:
    world.apply_story("v2", build_strategy(steps=HELD))
    deployment = world.wait_until_settled("v2")
    assert deployment.stable == held.target
    assert world.list_rollouts() == []
    world.start_traffic()
    world.traffic.assert_none_failed()
