"""Somebody deletes what a canary in pods of its own consists of, behind Traefik, in mid-rollout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.own_pods import (
    begin,
    get_attempt,
    get_weights,
    get_workloads,
    list_pods_of,
    start_behind,
    wait_until_effective,
    wait_until_over,
)
from tests.e2e.harness.specs import JUDGED, NAME, build_step, build_strategy, with_environment
from tests.e2e.harness.waiting import wait_for
from tests.e2e.harness.world import RPS

if TYPE_CHECKING:
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HOST = "deleted.example"
SETTLE = 3.0  # until the gateway's own lag is over
LAG = 4.0  # the gateway waits for two seconds from one change to the next
AFTER = 20  # seconds of answers that are looked at after a deletion
HELD = build_strategy(
    steps=(build_step(50, minDuration="20m", deadline="1h"), {"weight": 100}), metrics=JUDGED
)


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    return start_behind(world, "traefik", HOST, HELD)


def hold(world: World, release: str) -> Rollout:
    """An attempt that stands at 50 %."""
    name = begin(world, lambda: world.apply(with_environment(world.spec, RELEASE=release)))
    return wait_until_effective(world, name)


def test_a_deleted_attempt_takes_its_canary_along_and_fails_nobody(
    world: World, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gateway is told first, the pods go when it sends nobody there any more."""
    assert gateway.kind == "traefik"
    before = world.get_identities()
    rollout = hold(world, "2")
    began = world.traffic.get_now()
    world.api.delete("DSPyRollout", world.namespace, rollout.name)
    world.wait("its pods are gone", lambda d: not d.canary and world.get_identities() == before, 60)
    last = get_last_answer(world, rollout)
    with capsys.disabled():
        print(f"\nthe DSPyRollout was deleted at 50 %: the canary's last answer after {last - began:.1f} s")
    deployment = world.wait("it is told", lambda d: d.get("Stalled").status == "True", 30)
    assert "(RecordLost)" in deployment.get("Stalled").message
    assert deployment.get("Available").status == "True"
    wait_for("answers", lambda: world.traffic.get_split(began, began + AFTER).total > 20 * AFTER, 60)
    world.traffic.assert_none_failed()


def test_a_deleted_deployment_of_the_canary_ends_the_attempt_within_the_gateways_lag(
    world: World, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand and at once: what is on its way to the canary before the gateway has the new weights cannot be saved."""
    assert gateway.kind == "traefik"
    rollout, failed = hold(world, "3"), world.traffic.get_failed()
    _, workload = get_workloads(world, rollout)
    identities = {pod["metadata"]["uid"] for pod in list_pods_of(world, workload)}
    began = world.traffic.get_now()
    world.api.delete("Deployment", world.namespace, f"{NAME}-{workload}")
    ended = wait_until_over(world, rollout.name, "RolledBack", 60)
    assert ended.get_entry("RollingBack").reason == "CanaryDead"
    wait_for("answers", lambda: world.traffic.get_split(began, began + AFTER).total > 20 * AFTER, 60)
    failed = world.traffic.get_failed() - failed
    with capsys.disabled():
        print(
            f"\nthe canary's Deployment was deleted at 50 %: on record after "
            f"{ended.get_entry('RollingBack').at - began:.1f} s, its last answer after "
            f"{get_last_answer(world, rollout) - began:.1f} s, {failed} requests failed"
        )
    assert failed <= RPS * 0.5 * LAG
    world.wait("its pods are gone", lambda _: not world.get_identities().keys() & identities, 60)
    assert world.get().get("Available").status == "True"


def get_last_answer(world: World, rollout: Rollout) -> float:
    """When the last request was sent that the canary answered."""
    return float(world.traffic.get_stats()["total"]["revisions"][rollout.revision]["last_sent_at"])


def test_a_deleted_route_and_a_deleted_service_come_back_with_their_split(
    world: World, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it is back the gateway has nowhere to send some requests, and says so: those are counted."""
    assert gateway.kind == "traefik"
    rollout = hold(world, "4")
    for kind, name in (("HTTPRoute", NAME), ("Service", f"{NAME}-canary")):
        failed = world.traffic.get_failed()
        began = time.monotonic()
        world.delete_and_wait(kind, name, 30, poll=0.05)
        seconds = time.monotonic() - began
        since = world.traffic.get_now() + SETTLE
        wait_for(
            "answers", lambda s=since: world.traffic.get_split(s, s + 5).total > 100, 30, tell=world.tell
        )
        failed = world.traffic.get_failed() - failed
        with capsys.disabled():
            print(f"\n{kind} {name} was back after {seconds:.2f} s; {failed} requests failed in between")
        world.traffic.get_split(since, since + 5).assert_share(rollout.revision, 50)
        assert failed <= RPS * (seconds + SETTLE)
    assert get_weights(world) == {f"{NAME}-stable": 50, f"{NAME}-canary": 50}
    assert get_attempt(world, rollout.name).phase == "Stepping"
