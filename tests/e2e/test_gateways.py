"""Both gateways do what the stories with a gateway take for granted; no operator is needed.

Two tiny backends stand for stable and canary; one HTTPRoute hangs below both gateways at once, which also shows that
neither controller touches what the other one says.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.cluster.addons import build_images
from tests.cluster.choose import choose
from tests.e2e.harness.api import open_api
from tests.e2e.harness.backends import build_backend
from tests.e2e.harness.gateways import KINDS, Gateway, build_gateway_clients, open_gateway
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.traffic import Split, Traffic
from tests.e2e.harness.waiting import wait_for, watch_for
from tests.e2e.harness.world import MARK, build_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.provider import Cluster
    from tests.e2e.harness.api import Api, Object

pytestmark = pytest.mark.alone

HOST, ROUTE = "triage.example", "triage"
HEADER = {"name": "X-Preview", "value": "canary"}
RPS, PREVIEW_RPS = 70, 10
ENOUGH = 600
QUIET = 1.0  # after so many seconds without an answer of the old backend the flip is over
SECONDS = 60
FLIPS = ((100, "stable"), (0, "canary"), (100, "stable"), (0, "canary"))
LIMIT = 5.0  # how long the operator waits before it counts on a weight


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    found = choose()
    found.start()
    return found


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    with open_api(cluster.kubeconfig) as opened:
        yield opened


@pytest.fixture(scope="module")
def gateways(cluster: Cluster, api: Api) -> dict[str, Gateway]:
    return {kind: open_gateway(cluster, api, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, api: Api, gateways: dict[str, Gateway]) -> Iterator[str]:
    """Backends, route, and for each gateway clients with and without the header, all ready and answered."""
    image = build_images(cluster, ("python",))["python"]
    name = f"gateways-{secrets.token_hex(3)}"
    api.apply(build_namespace(name, {MARK: str(os.getpid())}))
    try:
        for backend in ("stable", "canary"):
            api.apply(*build_backend(name, image, backend))
        api.apply(build_route(name, ROUTE, *gateways.values()))
        for kind, gateway in gateways.items():
            preview = build_gateway_clients(
                gateway,
                name,
                image,
                HOST,
                name=f"{kind}-preview",
                headers=((HEADER["name"], HEADER["value"]),),
            )
            api.apply(*build_gateway_clients(gateway, name, image, HOST, name=kind), *preview)
        wait_for("six ready pods", lambda: are_ready(api.list_("Pod", name), 6), 120)
        yield name
    finally:
        api.delete("Namespace", "", name)


def are_ready(pods: list[Object], count: int) -> bool:
    return len(pods) == count and all(is_ready(pod) for pod in pods)


def build_route(
    namespace: str, name: str, *gateways: Gateway, canary: int = 10, backend: str = "canary"
) -> Object:
    """Requests with the header go to the canary, of the others the canary's share."""
    refs = [
        {"name": f"{ROUTE}-stable", "port": 80, "weight": 100 - canary},
        {"name": f"{ROUTE}-{backend}", "port": 80, "weight": canary},
    ]
    match = {"path": {"type": "PathPrefix", "value": "/"}, "headers": [HEADER]}
    rules = [{"matches": [match], "backendRefs": [refs[1] | {"weight": 1}]}, {"backendRefs": refs}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [gateway.parent_ref for gateway in gateways],
            "hostnames": [HOST if name == ROUTE else f"{name}.example"],
            "rules": rules,
        },
    }


@pytest.fixture(scope="module")
def clients(api: Api, namespace: str, gateways: dict[str, Gateway]) -> dict[str, Traffic]:
    """The clients of each gateway; the first requests are few until they are answered."""
    found = {kind: Traffic(api, namespace, kind) for kind in gateways}
    for kind, traffic in found.items():
        gateways[kind].wait_until_current(namespace, ROUTE)
        traffic.set_rate(5)
        wait_for(f"an answer through {kind}", traffic.get_answered, SECONDS, tell=gateways[kind].tell)
    return found


def count(window: Object) -> Counter[str]:
    return Counter({revision: arm["requests"] for revision, arm in window["revisions"].items()})


def test_of_a_weight_of_ten_a_tenth_arrives_through_either_gateway(
    clients: dict[str, Traffic], capsys: pytest.CaptureFixture[str]
) -> None:
    for traffic in clients.values():
        traffic.set_rate(RPS)
        traffic.mark("90/10")
    for kind, traffic in clients.items():
        wait_for(f"{ENOUGH} answers", lambda: get_window(traffic)["answered"] >= ENOUGH, SECONDS, poll=0.5)  # noqa: B023
        window = traffic.mark("split seen")
        split = Split(count(window), int(window["ended_at"] - window["started_at"]))
        with capsys.disabled():
            print(f"\n{kind}: canary {split.counts['canary']} of {split.total} at 10 %", end="")
        split.assert_share("canary", 10)


def test_a_header_leads_to_the_canary_and_nowhere_else(
    api: Api, namespace: str, clients: dict[str, Traffic]
) -> None:
    for kind in clients:
        preview = Traffic(api, namespace, f"{kind}-preview")
        preview.set_rate(PREVIEW_RPS)
        wait_for(f"previews through {kind}", lambda: preview.get_answered() >= 20, SECONDS)  # noqa: B023
        assert preview.get_stats()["total"]["tracks"].keys() == {"canary"}


def test_flips_are_in_effect_within_seconds_and_their_status_sooner(
    api: Api,
    namespace: str,
    gateways: dict[str, Gateway],
    clients: dict[str, Traffic],
    capsys: pytest.CaptureFixture[str],
) -> None:
    lags: dict[str, list[tuple[float, float]]] = {kind: [] for kind in gateways}
    for canary, old in FLIPS:
        for traffic in clients.values():
            traffic.mark(f"to {canary} %")
        api.apply(build_route(namespace, ROUTE, *gateways.values(), canary=canary))
        for kind, status in measure_statuses(api, namespace, gateways, clients).items():
            lags[kind].append((status, measure_traffic(gateways[kind], clients[kind], old)))
    with capsys.disabled():
        for kind, found in lags.items():
            told = ", ".join(f"{status:.2f}/{traffic:.2f}" for status, traffic in found)
            print(f"\n{kind}: status/last old answer after the patch: {told} s", end="")
    assert all(traffic < LIMIT for found in lags.values() for _, traffic in found)


def measure_statuses(
    api: Api, namespace: str, gateways: dict[str, Gateway], clients: dict[str, Traffic]
) -> dict[str, float]:
    """Seconds from each window's beginning until its gateway had taken the route."""
    found: dict[str, float] = {}

    def look() -> bool:
        route = api.get("HTTPRoute", namespace, ROUTE)
        for kind in [kind for kind in gateways if kind not in found and gateways[kind].is_current(route)]:
            stats = clients[kind].get_stats()
            found[kind] = stats["now"] - stats["windows"][-1]["started_at"]
        return found.keys() == gateways.keys()

    wait_for("both gateways to take the route", look, SECONDS, poll=0.01)
    return found


def measure_traffic(gateway: Gateway, traffic: Traffic, old: str) -> float:
    """Seconds from the window's beginning until the last request was sent that the old backend answered."""
    wait_for(f"{gateway.kind} to leave {old}", lambda: is_quiet(traffic, old), SECONDS, tell=gateway.tell)
    return get_last(traffic, old) - float(get_window(traffic)["started_at"])


def get_window(traffic: Traffic) -> Object:
    window: Object = traffic.get_stats()["windows"][-1]
    return window


def get_last(traffic: Traffic, revision: str) -> float:
    """When the last request was sent that this backend answered; the window's beginning when there was none."""
    window = get_window(traffic)
    return float(window["revisions"].get(revision, {}).get("last_sent_at", window["started_at"]))


def is_quiet(traffic: Traffic, revision: str) -> bool:
    window = get_window(traffic)
    since = traffic.get_stats()["now"] - get_last(traffic, revision)
    return since > QUIET and any(other != revision for other in window["revisions"])


def test_a_missing_service_is_an_unresolved_reference(
    api: Api, namespace: str, gateways: dict[str, Gateway]
) -> None:
    api.apply(build_route(namespace, "broken", *gateways.values(), backend="missing"))
    for gateway in gateways.values():
        found = wait_for(
            f"{gateway.kind} to judge the route",
            lambda: gateway.find_conditions(api.get("HTTPRoute", namespace, "broken")),  # noqa: B023
            SECONDS,
        )
        assert (found["ResolvedRefs"]["status"], found["ResolvedRefs"]["reason"]) == (
            "False",
            "BackendNotFound",
        )
        assert found["Accepted"]["status"] == "True"


@pytest.mark.parametrize("kind", KINDS)
def test_a_gateway_that_may_write_no_status_still_follows_the_route(
    api: Api, namespace: str, gateways: dict[str, Gateway], clients: dict[str, Traffic], kind: str
) -> None:
    gateway, traffic = gateways[kind], clients[kind]
    canary, old = (100, "stable") if kind == KINDS[0] else (0, "canary")
    with gateway.status_held():
        traffic.mark("held")
        api.apply(build_route(namespace, ROUTE, *gateways.values(), canary=canary))
        wait_for(f"{kind} to leave {old}", lambda: is_quiet(traffic, old), SECONDS, tell=gateway.tell)
        assert gateway.find_conditions(api.get("HTTPRoute", namespace, ROUTE)) == {}
    gateway.wait_until_current(namespace, ROUTE)


def test_routes_that_are_held_leave_traffic_as_it_was_though_the_status_is_current(
    api: Api, namespace: str, gateways: dict[str, Gateway], clients: dict[str, Traffic]
) -> None:
    gateway, traffic = gateways["envoy"], clients["envoy"]
    with gateway.routes_held():
        traffic.mark("held")
        api.apply(build_route(namespace, ROUTE, *gateways.values(), canary=100))
        gateway.wait_until_current(namespace, ROUTE)
        watch_for("stable alone", lambda: "canary" not in count(get_window(traffic)), 2)
    wait_for("the route to be followed", lambda: is_quiet(traffic, "stable"), SECONDS, tell=gateway.tell)


def test_no_request_failed_while_weights_were_changed(
    api: Api, namespace: str, clients: dict[str, Traffic]
) -> None:
    for kind, traffic in clients.items():
        assert traffic.assert_none_failed() > ENOUGH
        assert Traffic(api, namespace, f"{kind}-preview").assert_none_failed() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_gateway_that_was_stopped_or_lost_its_pod_answers_again(
    gateways: dict[str, Gateway], clients: dict[str, Traffic], kind: str
) -> None:
    gateway, traffic = gateways[kind], clients[kind]
    gateway.stop()
    failed = traffic.get_failed()
    wait_for("failures", lambda: traffic.get_failed() > failed, SECONDS)
    gateway.start()
    wait_for_answers(gateway, traffic)
    gateway.restart()
    wait_for_answers(gateway, traffic)


def wait_for_answers(gateway: Gateway, traffic: Traffic) -> None:
    until = traffic.get_answered() + 20
    wait_for(
        f"answers through {gateway.kind}", lambda: traffic.get_answered() > until, SECONDS, tell=gateway.tell
    )
