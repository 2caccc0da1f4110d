"""What every router promises, asked of all three; then what only one of them does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.operator.traffic.views import CANARY, FULL, OWNER, PARENTS, SHARED, STABLE, Cluster, split

from dspy_operator.api import names
from dspy_operator.manifests.gateway import Parents
from dspy_operator.rollout.model import Program, Split
from dspy_operator.traffic.gateway_api import GatewayRouter
from dspy_operator.traffic.process import ProcessRouter
from dspy_operator.traffic.replicas import ReplicasRouter
from dspy_operator.traffic.view import SETTLE, Router

ROUTERS: dict[str, tuple[Router, Program]] = {
    "process": (ProcessRouter(), SHARED),
    "gateway": (GatewayRouter(), CANARY),
    "replicas": (ReplicasRouter(), CANARY),
}


@pytest.fixture(params=ROUTERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster(kind: str) -> Cluster:
    router, _ = ROUTERS[kind]
    found = Cluster(router, parents=PARENTS if kind == "gateway" else None)
    found.settle(split(0, None))
    return found


@pytest.fixture
def canary(kind: str) -> Program:
    return ROUTERS[kind][1]


# --- the contract --------------------------------------------------------------------------------------------


def test_without_a_canary_all_users_reach_stable(cluster: Cluster) -> None:
    assert cluster.measure_share(STABLE.workload) == FULL


def test_a_whole_rollout_takes_effect_step_by_step(cluster: Cluster, canary: Program) -> None:
    for weight in (0, 10, 50, 100, 0):
        cluster.settle(split(weight, canary))
    cluster.settle(split(0, None))
    assert cluster.measure_share(STABLE.workload) == FULL


def test_at_weight_0_no_user_reaches_pods_of_the_canarys_own(cluster: Cluster, canary: Program) -> None:
    cluster.settle(split(0, canary))
    assert cluster.measure_share(CANARY.workload) == 0


def test_what_is_in_effect_is_not_written_again(cluster: Cluster, canary: Program) -> None:
    cluster.settle(split(10, canary))
    assert cluster.router.list_writes(cluster.view(), split(10, canary), {"record": "y"}) == []


def test_a_rollback_is_written_at_once_whatever_pods_and_gateway_do(
    cluster: Cluster, canary: Program
) -> None:
    cluster.settle(split(50, canary))
    cluster.accepts, cluster.slices = False, {}
    cluster.make(split(0, None))
    assert cluster.measure_share(STABLE.workload) == FULL


def test_after_a_promotion_users_reach_the_new_pods_throughout(cluster: Cluster, canary: Program) -> None:
    cluster.settle(split(100, canary))
    promoted = split(0, None, stable=canary)
    for _ in range(12):
        cluster.make(promoted)
        assert cluster.measure_share(canary.workload) == FULL
        cluster.router.find_obstacle(cluster.view(), promoted)
        cluster.tick(2.0)
    assert cluster.router.find_obstacle(cluster.view(), promoted) is None


def test_only_pods_that_can_be_reached_are_counted(cluster: Cluster, canary: Program) -> None:
    cluster.settle(split(0, canary))
    cluster.router.count_reachable(cluster.view(), split(0, canary))
    cluster.tick()
    count, message = cluster.router.count_reachable(cluster.view(), split(0, canary))
    assert (count, message) == (2, "")
    cluster.pods = {}
    assert cluster.router.count_reachable(cluster.view(), split(0, canary))[0] == 0


def test_the_service_that_clients_call_is_always_among_the_wanted(cluster: Cluster, canary: Program) -> None:
    for wanted in (split(0, None), split(10, canary)):
        listed = [s["metadata"]["name"] for s in cluster.router.list_services(cluster.view(), wanted)]
        assert listed[0] == OWNER.name
        assert len(set(listed)) == len(listed)


# --- the gateway ---------------------------------------------------------------------------------------------


@pytest.fixture
def behind() -> Cluster:
    found = Cluster(GatewayRouter())
    found.settle(split(0, None))
    return found


def get_selected(cluster: Cluster, name: str) -> str:
    return str(cluster.services[name]["spec"]["selector"][names.LABEL_WORKLOAD])


def test_both_backends_are_in_the_route_at_any_time(behind: Cluster) -> None:
    for wanted in (split(0, None), split(10), split(100)):
        behind.settle(wanted)
        refs = behind.route["spec"]["rules"][-1]["backendRefs"]
        assert [ref["name"] for ref in refs] == ["triage-stable", "triage-canary"]
        assert sum(ref["weight"] for ref in refs) == FULL


def test_a_weight_is_not_in_effect_before_every_parent_of_ours_has_taken_it(behind: Cluster) -> None:
    two = Parents(({"name": "public"}, {"name": "inner", "sectionName": "web"}), PARENTS.hostnames)
    behind.parents = two
    behind.make(split(10))
    behind.tick()
    behind.router.find_obstacle(behind.view(), split(10))
    behind.tick()
    assert behind.router.find_obstacle(behind.view(), split(10)) is None
    behind.route["status"]["parents"].pop()
    obstacle = behind.router.find_obstacle(behind.view(), split(10))
    assert obstacle is not None
    assert "Gateway inner has said nothing" in obstacle.message
    assert not obstacle.is_settling


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"status": "False", "reason": "BackendNotFound", "message": "no such Service"}, "BackendNotFound"),
        ({"observedGeneration": 0}, "of the route as it is now"),
    ],
)
def test_a_parent_that_refuses_is_quoted(
    behind: Cluster, kind: str, change: dict[str, object], told: str
) -> None:
    behind.settle(split(10))
    conditions = behind.route["status"]["parents"][0]["conditions"]
    next(c for c in conditions if c["type"] == kind).update(change)
    obstacle = behind.router.find_obstacle(behind.view(), split(10))
    assert obstacle is not None
    assert told in obstacle.message
    assert kind in obstacle.message


def test_parents_of_others_do_not_matter(behind: Cluster) -> None:
    behind.settle(split(10))
    foreign = {"parentRef": {"name": "another"}, "conditions": [{"type": "Accepted", "status": "False"}]}
    behind.route["status"]["parents"].insert(0, foreign)
    assert behind.router.find_obstacle(behind.view(), split(10)) is None


def test_status_is_not_traffic_so_the_gateway_is_given_time(behind: Cluster) -> None:
    behind.make(split(10))
    behind.tick(0.1)
    first = behind.router.find_obstacle(behind.view(), split(10))
    assert first is not None
    assert first.is_settling
    behind.now += SETTLE
    assert behind.router.find_obstacle(behind.view(), split(10)) is None


def test_the_canarys_pods_count_only_after_they_were_endpoints_for_a_while(behind: Cluster) -> None:
    behind.make(split(0))
    behind.tick(0.1)
    assert behind.router.count_reachable(behind.view(), split(0))[0] == 0
    behind.now += SETTLE
    assert behind.router.count_reachable(behind.view(), split(0))[0] == 2


def test_stables_service_changes_its_pods_only_while_it_gets_nothing(behind: Cluster) -> None:
    behind.settle(split(100))
    assert get_selected(behind, "triage-stable") == STABLE.workload
    promoted = split(0, None, stable=CANARY)
    behind.make(promoted)
    assert get_selected(behind, "triage-stable") == CANARY.workload
    weights = [ref["weight"] for ref in behind.route["spec"]["rules"][-1]["backendRefs"]]
    assert weights == [0, 100], "the route waits for the endpoints"
    obstacle = behind.router.find_obstacle(behind.view(), promoted)
    assert obstacle is not None
    assert "triage-stable does not reach" in obstacle.message
    behind.settle(promoted)
    weights = [ref["weight"] for ref in behind.route["spec"]["rules"][-1]["backendRefs"]]
    assert weights == [100, 0]


def test_an_edit_of_the_route_by_hand_is_taken_back(behind: Cluster) -> None:
    behind.settle(split(10))
    behind.route["spec"]["rules"][-1]["backendRefs"][1]["weight"] = 90
    assert behind.router.list_writes(behind.view(), split(10), {}) != []
    behind.route["spec"]["rules"][-1]["backendRefs"][1]["weight"] = 10
    behind.route["spec"]["rules"].insert(0, {"backendRefs": [{"name": "elsewhere", "port": 80}]})
    assert behind.router.list_writes(behind.view(), split(10), {}) != []


def test_hostnames_that_were_removed_from_the_spec_leave_the_route(behind: Cluster) -> None:
    behind.parents = Parents(PARENTS.refs)
    (route,) = behind.router.list_writes(behind.view(), split(0, None), {})
    assert "hostnames" not in route["spec"]


def test_the_override_header_chooses_a_backend_by_name_or_revision(behind: Cluster) -> None:
    view = replace(behind.view(), override_header="X-Preview")
    (route,) = behind.router.list_writes(view, split(10), {})
    *chosen, rest = route["spec"]["rules"]
    found = {rule["matches"][0]["headers"][0]["value"]: rule["backendRefs"][0]["name"] for rule in chosen}
    assert found == {
        "canary": "triage-canary",
        CANARY.revision: "triage-canary",
        "stable": "triage-stable",
        STABLE.revision: "triage-stable",
    }
    assert len(rest["backendRefs"]) == 2


def test_a_new_epoch_is_stamped_on_a_route_that_is_as_it_should_be(behind: Cluster) -> None:
    behind.settle(split(10))
    (route,) = behind.router.list_writes(behind.view(), split(10), {"epoch": "8"}, again=True)
    assert route["metadata"]["annotations"] == {"epoch": "8"}
    assert route["spec"] == behind.route["spec"]


def test_a_preview_has_a_service_of_its_own(behind: Cluster) -> None:
    view = replace(behind.view(), preview=CANARY.workload)
    services = {s["metadata"]["name"]: s for s in behind.router.list_services(view, split(0))}
    selector = services["triage-preview"]["spec"]["selector"]
    assert selector[names.LABEL_WORKLOAD] == CANARY.workload


# --- replica counts ------------------------------------------------------------------------------------------


@pytest.fixture
def counted() -> Cluster:
    found = Cluster(ReplicasRouter(), parents=None, pods={"11111111": 9, "22222222": 1})
    found.settle(split(0, None))
    return found


@pytest.mark.parametrize(("weight", "share"), [(0, 0), (10, 10), (100, 100)])
def test_the_service_selects_stables_pods_both_or_the_canarys(
    counted: Cluster, weight: int, share: int
) -> None:
    counted.settle(split(weight))
    assert counted.measure_share(CANARY.workload) == share


def test_a_weight_waits_until_the_numbers_of_pods_are_those_of_it(counted: Cluster) -> None:
    counted.sizes = {"11111111": 5, "22222222": 1}
    counted.make(split(10))
    counted.tick()
    obstacle = counted.router.find_obstacle(counted.view(), split(10))
    assert obstacle is not None
    assert obstacle.message == "9 of 5 pods of workload 11111111 are ready"


def test_a_selector_with_one_label_more_is_other_pods(counted: Cluster) -> None:
    counted.settle(split(10))
    counted.services["triage"]["spec"]["selector"]["team"] = "x"
    assert counted.router.list_writes(counted.view(), split(10), {}) != []


# --- shared pods ---------------------------------------------------------------------------------------------


def test_pods_that_are_going_hold_the_service_back_until_it_has_let_go_of_them() -> None:
    cluster = Cluster(ProcessRouter(), parents=None)
    leaving = replace(split(0, None), leaving=(replace(split(0).shares[1], weight=0),))
    assert isinstance(leaving, Split)
    cluster.make(leaving)
    assert cluster.router.find_obstacle(cluster.view(), leaving) is not None
    cluster.tick()
    assert cluster.router.find_obstacle(cluster.view(), leaving) is not None, "the nodes follow later"
    cluster.tick()
    assert cluster.router.find_obstacle(cluster.view(), leaving) is None
