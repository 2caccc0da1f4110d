"""The smallest resource of the documentation, applied as it stands: every default but the durations."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.specs import build_minimal

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

# The defaults' durations are hours and a look is every 30 s; everything else of them stays: weights, minSamples,
# metrics with their margins and tolerances, mode, confidence, onDeadline.
DURATIONS: Object = {
    "canary": {
        "steps": [
            {"weight": 10, "minDuration": "5s", "minSamples": 100, "deadline": "20m"},
            {"weight": 50, "minDuration": "5s", "deadline": "20m"},
            {"weight": 100},
        ],
        "analysis": {"interval": "2s"},
        "bake": "4s",
    }
}


@pytest.fixture(scope="module")
def minimal(world: World) -> World:
    world.apply(build_minimal(world.namespace, world.artifacts["v1"]))
    world.wait_until_settled("v1")
    world.start_traffic(30)
    return world


@pytest.fixture(scope="module")
def promoted(minimal: World) -> Rollout:
    spec = deepcopy(minimal.spec)
    spec["spec"]["strategy"] = DURATIONS
    minimal.apply(spec)
    minimal.set_artifact("v2")
    return minimal.wait_for_end("v2", "Promoted", 400)


def test_the_minimal_resource_serves_as_it_stands(minimal: World) -> None:
    assert set(minimal.spec["spec"]) >= {"program", "lm", "scoring"}
    deployment = minimal.get()
    assert deployment.is_healthy
    assert len(minimal.list_pods()) == 2
    minimal.traffic.assert_none_failed()


def test_a_new_artifact_rolls_out_with_every_default_but_the_durations(
    minimal: World, promoted: Rollout
) -> None:
    assert [e.weight for e in promoted.entries if e.phase == "Stepping"] == [10, 50]
    minimal.wait_until_settled("v2")
    filled = minimal.api.get("DSPyRollout", minimal.namespace, promoted.name)["spec"]["strategy"]
    assert filled["analysis"]["mode"] == "Evidence"
    assert {m["name"]: m.get("maxDrop") for m in filled["analysis"]["metrics"]} == {
        "score": "5%",
        "latency": None,
        "errors": None,
    }


def test_no_request_failed_in_the_default_rollout(minimal: World, promoted: Rollout) -> None:
    assert promoted.phase == "Promoted"
    minimal.traffic.assert_none_failed()
