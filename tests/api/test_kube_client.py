"""The client against a real API server: what a bound write refuses, and what each answer becomes."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from tests.cluster.api_tier import ApiServer

from dspy_operator.errors import Conflict, Permanent
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import CONFIGMAPS, DEPLOYMENTS, PDBS, PODMONITORS, PODS, SERVICES, Resource

pytestmark = pytest.mark.api

NAMESPACE = "default"
WRONG_UID = "00000000-0000-0000-0000-000000000000"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "data": data}


def deployment(name: str, **template: Any) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "server", "image": "example.org/server:1"} | template
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def bound_to(obj: dict[str, Any]) -> dict[str, str]:
    return {"uid": obj["metadata"]["uid"], "resource_version": obj["metadata"]["resourceVersion"]}


async def test_what_is_created_is_found_with_its_kind(client: Client, name: str) -> None:
    assert await client.find(CONFIGMAPS, NAMESPACE, name) is None
    await client.create(CONFIGMAPS, config_map(name, a="1"))
    found = await client.find(CONFIGMAPS, NAMESPACE, name)
    assert found is not None
    assert (found["apiVersion"], found["kind"], found["data"]) == ("v1", "ConfigMap", {"a": "1"})


async def test_creating_what_exists_is_a_conflict(client: Client, name: str) -> None:
    await client.create(CONFIGMAPS, config_map(name))
    with pytest.raises(Conflict, match="already exists"):
        await client.create(CONFIGMAPS, config_map(name))


async def test_the_servers_clock_is_taken_from_its_answers(client: Client) -> None:
    assert client.server_time == 0.0
    await client.find(CONFIGMAPS, NAMESPACE, "none")
    assert client.server_time > 1.7e9


async def test_metadata_only_brings_no_data(client: Client, name: str) -> None:
    obj = config_map(name, a="1")
    obj["metadata"]["labels"] = {"test": name}
    await client.create(CONFIGMAPS, obj)
    found = await client.find(CONFIGMAPS, NAMESPACE, name, metadata_only=True)
    assert found is not None
    assert found["kind"] == "ConfigMap"
    assert "data" not in found
    assert found["metadata"]["uid"]
    (listed,) = await client.list_(CONFIGMAPS, None, labels=f"test={name}", metadata_only=True)
    assert listed == found


async def test_a_list_is_read_page_by_page(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspy_operator.kube.client.PAGE", 2)
    for index in range(5):
        obj = config_map(f"{name}-{index}")
        obj["metadata"]["labels"] = {"test": name}
        await client.create(CONFIGMAPS, obj)
    items = await client.list_(CONFIGMAPS, NAMESPACE, labels=f"test={name}")
    assert [item["metadata"]["name"] for item in items] == [f"{name}-{index}" for index in range(5)]
    assert {item["kind"] for item in items} == {"ConfigMap"}


async def test_an_apply_to_what_was_read_changes_it(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    changed = await client.apply(CONFIGMAPS, config_map(name, a="2"), **bound_to(made))
    assert changed["data"] == {"a": "2"}
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


async def test_an_apply_that_changes_nothing_writes_nothing(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    first = await client.apply(CONFIGMAPS, config_map(name, a="1"), **bound_to(made))
    second = await client.apply(CONFIGMAPS, config_map(name, a="1"), **bound_to(first))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_an_apply_of_an_old_reading_is_a_conflict(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    await client.apply(CONFIGMAPS, config_map(name, a="2"), **bound_to(made))
    with pytest.raises(Conflict):
        await client.apply(CONFIGMAPS, config_map(name, a="3"), **bound_to(made))


async def test_an_apply_to_another_object_of_that_name_is_a_conflict(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    with pytest.raises(Conflict):
        await client.apply(
            CONFIGMAPS,
            config_map(name, a="2"),
            uid=WRONG_UID,
            resource_version=made["metadata"]["resourceVersion"],
        )


async def test_an_apply_to_what_is_gone_is_a_conflict_and_creates_nothing(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    await client.delete(CONFIGMAPS, NAMESPACE, name, uid=made["metadata"]["uid"])
    with pytest.raises(Conflict):
        await client.apply(CONFIGMAPS, config_map(name, a="2"), **bound_to(made))
    assert await client.find(CONFIGMAPS, NAMESPACE, name) is None


async def test_an_apply_takes_a_field_from_another_writer(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name, a="1"))
    ours = await client.apply(CONFIGMAPS, config_map(name, a="1"), **bound_to(made))
    theirs = await client.merge(CONFIGMAPS, NAMESPACE, name, {"data": {"a": "theirs", "b": "theirs"}})
    assert theirs["data"] == {"a": "theirs", "b": "theirs"}
    assert theirs["metadata"]["uid"] == ours["metadata"]["uid"]
    again = await client.apply(CONFIGMAPS, config_map(name, a="1"), **bound_to(theirs))
    assert again["data"]["a"] == "1"


async def test_an_apply_removes_what_creation_set(client: Client, name: str) -> None:
    resources = {"limits": {"cpu": "1"}}
    made = await client.create(DEPLOYMENTS, deployment(name, resources=resources, command=["run"]))
    changed = await client.apply(DEPLOYMENTS, deployment(name, command=["run"]), **bound_to(made))
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["run"]
    assert container["resources"] == {}


def service(name: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"metadata": metadata, "spec": {"selector": {"app": name}, "ports": ports}}


def budget(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"metadata": metadata, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}}}


@pytest.mark.parametrize(
    ("resource", "build"), [(DEPLOYMENTS, deployment), (SERVICES, service), (PDBS, budget)]
)
async def test_the_first_apply_after_creation_changes_nothing_and_the_second_is_one_request(
    api_server: ApiServer, name: str, resource: Resource, build: Callable[[str], dict[str, Any]]
) -> None:
    requests: list[tuple[str, str, str]] = []
    client = await Client.from_environment(
        kubeconfig=str(api_server.kubeconfig), on_request=lambda *request: requests.append(request)
    )
    try:
        made = await client.create(resource, build(name))
        first = await client.apply(resource, build(name), **bound_to(made))
        assert first["spec"] == made["spec"]
        assert first["metadata"].get("generation") == made["metadata"].get("generation")
        requests.clear()
        second = await client.apply(resource, build(name), **bound_to(first))
    finally:
        await client.close()
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert requests == [("patch", resource.plural, "200")]


async def test_a_status_patch_is_bound_to_what_was_read(client: Client, name: str) -> None:
    made = await client.create(DEPLOYMENTS, deployment(name))
    patch = {"observedGeneration": 7, "replicas": 1}
    changed = await client.patch_status(DEPLOYMENTS, NAMESPACE, name, patch, **bound_to(made))
    assert changed["status"]["observedGeneration"] == 7
    assert changed["metadata"]["generation"] == made["metadata"]["generation"]
    with pytest.raises(Conflict):
        await client.patch_status(DEPLOYMENTS, NAMESPACE, name, {"replicas": 2}, **bound_to(made))
    stale = bound_to(changed) | {"uid": WRONG_UID}
    with pytest.raises(Conflict):
        await client.patch_status(DEPLOYMENTS, NAMESPACE, name, {"replicas": 2}, **stale)
    removed = await client.patch_status(
        DEPLOYMENTS, NAMESPACE, name, {"observedGeneration": None}, **bound_to(changed)
    )
    assert "observedGeneration" not in removed["status"]


async def test_a_status_patch_of_what_is_missing_is_a_conflict(client: Client, name: str) -> None:
    with pytest.raises(Conflict):
        await client.patch_status(
            DEPLOYMENTS, NAMESPACE, name, {"replicas": 1}, uid=WRONG_UID, resource_version="1"
        )


async def test_annotations_are_set_and_removed_unbound(client: Client, name: str) -> None:
    pod = {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "server", "image": "example.org/server:1"}]},
    }
    await client.create(PODS, pod)
    annotated = await client.annotate(PODS, NAMESPACE, name, {"example.org/a": "1"})
    assert annotated["metadata"]["annotations"] == {"example.org/a": "1"}
    bare = await client.annotate(PODS, NAMESPACE, name, {"example.org/a": None})
    assert "annotations" not in bare["metadata"]
    with pytest.raises(Conflict):
        await client.annotate(PODS, NAMESPACE, f"{name}-gone", {"example.org/a": "1"})


async def test_a_delete_is_bound_to_uid_and_version(client: Client, name: str) -> None:
    made = await client.create(CONFIGMAPS, config_map(name))
    with pytest.raises(Conflict):
        await client.delete(CONFIGMAPS, NAMESPACE, name, uid=WRONG_UID)
    changed = await client.annotate(CONFIGMAPS, NAMESPACE, name, {"example.org/a": "1"})
    with pytest.raises(Conflict):
        await client.delete(CONFIGMAPS, NAMESPACE, name, **bound_to(made))
    await client.delete(CONFIGMAPS, NAMESPACE, name, **bound_to(changed))
    assert await client.find(CONFIGMAPS, NAMESPACE, name) is None
    await client.delete(CONFIGMAPS, NAMESPACE, name, **bound_to(changed))


async def test_what_the_schema_refuses_names_verb_resource_and_field(client: Client, name: str) -> None:
    broken = deployment(name)
    broken["spec"]["replicas"] = -1
    with pytest.raises(Permanent, match=r"create deployments: 422: .*spec\.replicas") as caught:
        await client.create(DEPLOYMENTS, broken)
    assert caught.value.code == 422


async def test_what_may_never_change_is_permanent_and_no_conflict(client: Client, name: str) -> None:
    made = await client.create(DEPLOYMENTS, deployment(name))
    other = deployment(name)
    other["spec"]["selector"]["matchLabels"] = {"app": "other"}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(Permanent, match="immutable"):
        await client.apply(DEPLOYMENTS, other, **bound_to(made))


async def test_a_kind_that_is_not_served_is_permanent_to_list_and_absent_to_find(client: Client) -> None:
    with pytest.raises(Permanent, match="list podmonitors"):
        await client.list_(PODMONITORS, NAMESPACE)
    assert await client.find(PODMONITORS, NAMESPACE, "any") is None


async def test_every_request_is_counted_by_verb_kind_and_answer(api_server: ApiServer) -> None:
    requests: list[tuple[str, str, str]] = []
    client = await Client.from_environment(
        kubeconfig=str(api_server.kubeconfig), on_request=lambda *request: requests.append(request)
    )
    try:
        assert await client.list_(Resource("", "v1", "namespaces", "Namespace"), None)
        assert await client.find(CONFIGMAPS, NAMESPACE, "none") is None
    finally:
        await client.close()
    assert requests == [("list", "namespaces", "200"), ("get", "configmaps", "404")]
