"""Blue-green: the whole new revision can be tried while no user is sent there, then all are at once, then the bake.

With pods of its own, behind Traefik, it has a Service `<name>-preview`; in shared pods `overrideHeader` leads there.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from tests.e2e.harness.gateways import build_gateway_clients
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.own_pods import (
    begin,
    get_workloads,
    start_behind,
    wait_for_attempt,
    wait_until_over,
)
from tests.e2e.harness.specs import (
    NAME,
    PREVIEW,
    SCORE,
    build_blue_green,
    with_artifact,
    with_environment,
    with_strategy,
)
from tests.e2e.harness.traffic import Traffic
from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.gateways import Gateway
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

HOST, HEADER = "blue-green.example", "X-Preview"
WALK = ["Preparing", "Stepping 0", "Promoting", "Baking", "Promoted"]
QUESTION = {"inputs": {"ticket": "My invoice is wrong, I was charged twice."}}


@pytest.fixture(scope="module")
def gateway(world: World) -> Gateway:
    def with_header(spec: Object) -> Object:
        changed = deepcopy(spec)
        changed["spec"]["traffic"]["overrideHeader"] = HEADER
        return changed

    return start_behind(world, "traefik", HOST, build_blue_green(), change=with_header)


@pytest.fixture(scope="module")
def previewer(world: World, gateway: Gateway) -> Traffic:
    """Somebody who asks for the canary by the header; silent for now."""
    image = world.installation.images["python"]
    headers = ((HEADER, "canary"),)
    world.api.apply(
        *build_gateway_clients(gateway, world.namespace, image, HOST, name="previewer", headers=headers)
    )
    wait_for("the previewer", lambda: is_ready(world.api.get("Pod", world.namespace, "previewer")), 60)
    return Traffic(world.api, world.namespace, "previewer")


def assert_no_user_saw(world: World, rollout: Rollout, until: float) -> None:
    """Up to a moment, but for a second, all users were answered by the revision before."""
    split = world.traffic.get_split(rollout.created_at, until - 1)
    assert set(split.counts) == {rollout.from_revision}, split.counts
    assert split.total > 100


# pods of its own


@pytest.fixture(scope="module")
def promoted(world: World, gateway: Gateway) -> tuple[Rollout, Object]:
    """v2 in another environment, up to its promotion, and what its preview Service answered."""
    assert gateway.kind == "traefik"
    spec = with_artifact(with_environment(world.spec, RELEASE="2"), world.artifacts["v2"])
    name = begin(world, lambda: world.apply(spec))
    wait_for_attempt(world, name, "is previewed", lambda r: (r.phase, r.step) == ("Stepping", 0), 90)
    answer = world.api.ask(f"services/{world.namespace}/{NAME}-preview:80", "/ask", QUESTION)
    assert wait_for_attempt(world, name, "is previewed", lambda r: r.weight == 0, 1).phase == "Stepping"
    return wait_until_over(world, name, "Promoted", 120), answer


def test_the_preview_service_answers_with_the_new_revision_while_no_user_gets_it(
    world: World, promoted: tuple[Rollout, Object]
) -> None:
    rollout, answer = promoted
    assert answer["meta"]["revision"] == rollout.revision
    assert_no_user_saw(world, rollout, rollout.get_entry("Promoting").at)


def test_after_the_preview_all_users_go_there_at_once(world: World, promoted: tuple[Rollout, Object]) -> None:
    rollout, _ = promoted
    assert rollout.list_phases() == WALK
    assert [state.weight for state in rollout.entries if state.phase in {"Stepping", "Promoting"}] == [0, 100]
    assert rollout.get_entry("Promoting").at - rollout.get_entry("Stepping").at >= PREVIEW
    start = rollout.get_entry("Baking").at
    wait_for("answers", lambda: world.traffic.get_split(start, start + 5).total > 100, 30)
    assert set(world.traffic.get_split(start, start + 5).counts) == {rollout.revision}
    world.wait("the preview's Service is gone", lambda _: not has_preview(world), 60)


def has_preview(world: World) -> bool:
    return world.api.find("Service", world.namespace, f"{NAME}-preview") is not None


def test_a_bad_one_is_judged_in_the_bake_and_goes_back_by_itself(
    world: World, promoted: tuple[Rollout, Object]
) -> None:
    good, _ = promoted
    world.wait_until_settled("v2")
    strategy = build_blue_green(bake="5m", previewDuration="1s")
    strategy["blueGreen"]["analysis"]["metrics"] = [SCORE | {"minSamples": 100}]
    spec = with_strategy(world.spec, strategy)
    spec = with_artifact(with_environment(spec, RELEASE="3"), world.artifacts["v3"])
    rollout = wait_until_over(world, begin(world, lambda: world.apply(spec)), "RolledBack", 120)
    assert rollout.list_phases() == [*WALK[:-1], "RollingBack", "RolledBack"]
    assert rollout.get_entry("RollingBack").reason == "ThresholdViolated"
    assert "score" in rollout.get_entry("RollingBack").message
    assert world.get().stable_revision == good.revision
    world.wait("it is told", lambda d: d.get("Stalled").reason == "RolledBack", 30)
    start = (rollout.finished_at or 0) + 2
    wait_for("answers", lambda: world.traffic.get_split(start, start + 4).total > 80, 30)
    assert set(world.traffic.get_split(start, start + 4).counts) == {good.revision}


def test_an_abort_ends_a_preview_that_no_user_has_seen(
    world: World, promoted: tuple[Rollout, Object]
) -> None:
    good, _ = promoted
    spec = with_strategy(world.spec, build_blue_green(autoPromote=False, previewDuration="1s"))
    spec = with_artifact(with_environment(spec, RELEASE="4"), world.artifacts["v2"])
    name = begin(world, lambda: world.apply(spec))
    wait_for_attempt(world, name, "waits for a person", lambda r: r.reason == "AwaitingPromotion", 90)
    world.wait("it is told", lambda d: "waits for `promote`" in d.message, 10)
    world.dspy("abort", NAME)
    rollout = wait_until_over(world, name, "Aborted")
    assert_no_user_saw(world, rollout, rollout.finished_at or 0)
    assert world.get().stable_revision == good.revision


def test_a_promote_ends_the_preview_and_the_bake(
    world: World, previewer: Traffic, promoted: tuple[Rollout, Object]
) -> None:
    good, _ = promoted
    name = begin(world, lambda: world.dspy("retry", NAME))
    rollout = wait_for_attempt(
        world, name, "waits for a person", lambda r: r.reason == "AwaitingPromotion", 90
    )
    assert_header_leads_to(previewer, rollout.revision)
    assert_no_user_saw(world, rollout, world.traffic.get_now())
    world.dspy("promote", NAME)
    rollout = wait_until_over(world, name, "Promoted", 90)
    assert rollout.list_phases() == WALK
    stable, canary = get_workloads(world, rollout)
    assert stable != canary
    assert rollout.from_revision == good.revision


def assert_header_leads_to(previewer: Traffic, revision: str) -> None:
    """Whoever sends the header is answered by this revision."""
    previewer.set_rate(10)
    began = previewer.get_now()
    wait_for("the previewer's answers", lambda: previewer.get_split(began, began + 3).total > 10, 20)
    previewer.set_rate(0)
    assert set(previewer.get_split(began, began + 3).counts) == {revision}


def test_an_undo_brings_the_one_before_back_at_once(world: World, promoted: tuple[Rollout, Object]) -> None:
    good, _ = promoted
    name = begin(world, lambda: world.dspy("undo", NAME))
    rollout = wait_until_over(world, name, "Promoted", 90)
    assert rollout.revision == good.revision
    assert rollout.find_entry("Stepping") is None
    assert world.get().stable_revision == good.revision


# shared pods


def test_in_shared_pods_the_header_leads_to_it_while_no_user_does(world: World, previewer: Traffic) -> None:
    spec = with_strategy(with_environment(world.spec, RELEASE="2"), build_blue_green(previewDuration="12s"))
    world.apply(with_artifact(spec, world.artifacts["v2"]))
    world.wait_until_settled("v2")
    world.wait("no other pods", lambda _: len(world.list_pods()) == 2, 60)
    identities = world.get_identities()
    name = begin(world, lambda: world.set_artifact("v2-minus2"))
    rollout = wait_for_attempt(
        world, name, "is previewed", lambda r: (r.phase, r.step) == ("Stepping", 0), 60
    )
    assert_header_leads_to(previewer, rollout.revision)
    rollout = wait_until_over(world, name, "Promoted", 90)
    assert rollout.list_phases() == WALK
    assert_no_user_saw(world, rollout, rollout.get_entry("Promoting").at)
    assert world.get_identities() == identities


def test_in_shared_pods_abort_promote_and_undo_do_what_they_do_in_a_canary(
    world: World, gateway: Gateway
) -> None:
    assert gateway.kind == "traefik"
    stable = world.wait_until_settled("v2-minus2").stable_revision
    identities = world.get_identities()
    world.apply(with_strategy(world.spec, build_blue_green(autoPromote=False, previewDuration="1s")))
    aborted = begin(world, lambda: world.set_artifact("v1"))
    wait_for_attempt(world, aborted, "waits for a person", lambda r: r.reason == "AwaitingPromotion", 90)
    world.dspy("abort", NAME)
    assert_no_user_saw(world, wait_until_over(world, aborted, "Aborted"), world.traffic.get_now())
    name = begin(world, lambda: world.dspy("retry", NAME))
    wait_for_attempt(world, name, "waits for a person", lambda r: r.reason == "AwaitingPromotion", 90)
    world.dspy("promote", NAME)
    assert wait_until_over(world, name, "Promoted", 90).list_phases() == WALK
    undone = wait_until_over(world, begin(world, lambda: world.dspy("undo", NAME)), "Promoted", 90)
    assert (undone.revision, undone.find_entry("Stepping")) == (stable, None)
    assert world.get_identities() == identities


def test_no_user_was_failed_in_all_that(world: World, promoted: tuple[Rollout, Object]) -> None:
    assert promoted
    assert world.traffic.assert_none_failed() > 1000
