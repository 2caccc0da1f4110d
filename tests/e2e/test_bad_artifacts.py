"""Artifacts that must never answer anybody: refused with a reason, while stable keeps serving."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.waiting import watch_for

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Deployment
    from tests.e2e.harness.world import World


@pytest.fixture(scope="module")
def serving(world: World) -> World:
    world.start("v1")
    return world


def apply_artifact(world: World, config_map: str, sha256: str) -> None:
    spec: Object = deepcopy(world.spec)
    source = {"name": config_map, "key": "program.json"}
    spec["spec"]["program"]["artifact"] = {"configMap": source, "sha256": sha256}
    world.apply(spec)


def wait_for_refusal(world: World, reason: str, seconds: float) -> Deployment:
    def is_told(found: Deployment) -> bool:
        return (
            found.is_current
            and found.get("Stalled").status == "True"
            and reason
            in {
                found.get("Stalled").reason,
                found.get("Ready").reason,
            }
        )

    return world.wait(f"Stalled {reason}", is_told, seconds)


def assert_only_v1_answers(world: World) -> None:
    deployment = world.get()
    assert deployment.stable == world.artifacts["v1"].version
    assert deployment.get("Available").status == "True"
    answers = world.traffic.get_stats()["total"]["revisions"]
    assert list(answers) == [deployment.stable_revision]
    world.traffic.assert_none_failed()


def test_a_wrong_sha256_never_gets_traffic(serving: World) -> None:
    apply_artifact(serving, serving.artifacts["v2"].config_map, "0" * 64)
    deployment = wait_for_refusal(serving, "DigestMismatch", 60)
    assert "sha256" in deployment.message.lower() or "digest" in deployment.message.lower()
    assert_only_v1_answers(serving)


def test_a_file_that_is_not_a_program_never_gets_traffic(serving: World) -> None:
    serving.set_artifact("bad/not-a-program")
    wait_for_refusal(serving, "ArtifactRefused", 60)
    assert_only_v1_answers(serving)


def test_an_artifact_with_another_signature_never_gets_traffic(serving: World) -> None:
    serving.set_artifact("bad/other-signature")
    wait_for_refusal(serving, "SignatureMismatch", 60)
    assert_only_v1_answers(serving)


def test_a_missing_config_map_is_waited_for_and_then_named(serving: World) -> None:
    apply_artifact(serving, "nobody-made-this", "1" * 64)
    serving.wait("it waits", lambda d: d.is_current and "WaitingForArtifact" in str(d), 30)
    watch_for("no attempt at it", lambda: not serving.get().canary, 5)
    deployment = wait_for_refusal(serving, "ArtifactNotFound", 180)
    assert "nobody-made-this" in deployment.message
    assert_only_v1_answers(serving)


def test_after_all_refusals_a_good_artifact_still_rolls_out(serving: World) -> None:
    serving.set_artifact("v2")
    serving.wait_for_step("v2", 1)
    serving.set_artifact("v1")
    serving.wait_until_settled("v1")
    serving.traffic.assert_none_failed()
    assert list(serving.get_identities().values()) == [0, 0]
