"""The serving pods: what they are given, and what they must never depend on."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dspy_operator.api import names
from dspy_operator.manifests.owner import Owner, build_selector_text, is_owned
from dspy_operator.manifests.service import build_budget, build_service
from dspy_operator.manifests.workload import Workload, build_deployment

OWNER = Owner("ml", "triage", "uid-1")
LM = {
    "primary": {"model": "openai/gpt-4o-mini", "apiKeySecret": {"name": "llm", "key": "openai"}},
    "fallbacks": [
        {"model": "local/x"},
        {"model": "anthropic/y", "apiKeySecret": {"name": "llm", "key": "anthropic"}},
    ],
}
WORKLOAD = Workload(
    owner=OWNER,
    workload="0a1b2c3d",
    image="registry/server:1",
    module="support_triage:Triage",
    lm=LM,
    timeout=timedelta(seconds=30.5),
    replicas=2,
    source="triage-source-3f9a12c4d5e6",
    serving={
        "limits": {"queue": 1},
        "cache": {"redisSecret": {"name": "redis", "key": "url"}},
        "podTemplate": {"spec": {}},
    },
    scoring={"function": "support_triage:score", "feedbackKeySecret": {"name": "feedback", "key": "hmac"}},
)


def pod_of(workload: Workload) -> dict[str, Any]:
    pod: dict[str, Any] = build_deployment(workload)["spec"]["template"]["spec"]
    return pod


def server_of(workload: Workload) -> dict[str, Any]:
    (server,) = pod_of(workload)["containers"]
    return dict(server)


def test_the_deployment_belongs_to_its_owner_and_selects_its_own_pods() -> None:
    deployment = build_deployment(WORKLOAD)
    metadata, spec = deployment["metadata"], deployment["spec"]
    assert (metadata["name"], metadata["namespace"]) == ("triage-0a1b2c3d", "ml")
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "dspy-operator.io/v1alpha1",
            "kind": "DSPyDeployment",
            "name": "triage",
            "uid": "uid-1",
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    selector = spec["selector"]["matchLabels"]
    assert selector[names.LABEL_WORKLOAD] == "0a1b2c3d"
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["template"]["metadata"]["labels"][names.LABEL_MANAGED_BY] == "dspy-operator"
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert is_owned(deployment, OWNER)
    assert not is_owned(deployment, replace(OWNER, uid="uid-2"))


def test_a_child_that_another_controller_took_over_is_not_ours() -> None:
    deployment = build_deployment(WORKLOAD)
    deployment["metadata"]["ownerReferences"][0]["controller"] = False
    assert not is_owned(deployment, OWNER)
    assert not is_owned({"metadata": {"ownerReferences": None}}, OWNER)


def test_the_number_of_replicas_can_be_left_to_others() -> None:
    assert build_deployment(WORKLOAD)["spec"]["replicas"] == 2
    assert "replicas" not in build_deployment(replace(WORKLOAD, replicas=None))["spec"]


def test_the_server_is_told_module_lm_serving_and_scoring() -> None:
    env = {entry["name"]: entry.get("value") for entry in server_of(WORKLOAD)["env"]}
    assert env[names.ENV_PROGRAM] == "triage"
    assert env[names.ENV_WORKLOAD] == "0a1b2c3d"
    assert json.loads(env[names.ENV_SERVER_CONFIG] or "") == {
        "module": "support_triage:Triage",
        "lm": LM,
        "serving": {"limits": {"queue": 1}, "cache": {"redisSecret": {"name": "redis", "key": "url"}}},
        "scoring": dict(WORKLOAD.scoring),
    }
    assert server_of(WORKLOAD)["args"] == ["serve"]


def test_secrets_are_references_and_keys_are_numbered_like_the_targets() -> None:
    references = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"]
        for entry in server_of(WORKLOAD)["env"]
        if "valueFrom" in entry
    }
    assert references == {
        "DSPY_LM_KEY_0": {"name": "llm", "key": "openai"},
        "DSPY_LM_KEY_2": {"name": "llm", "key": "anthropic"},
        "DSPY_FEEDBACK_KEY": {"name": "feedback", "key": "hmac"},
        "DSPY_REDIS_URL": {"name": "redis", "key": "url"},
    }


def test_a_judges_key_is_a_reference_of_its_own() -> None:
    judged = replace(
        WORKLOAD, scoring={"judge": {"lm": {"model": "openai/x", "apiKeySecret": {"name": "j", "key": "k"}}}}
    )
    env = {entry["name"]: entry for entry in server_of(judged)["env"]}
    assert env["DSPY_JUDGE_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "j", "key": "k"}


def test_table_programs_and_code_are_mounted_read_only_at_fixed_places() -> None:
    mounts = {mount["mountPath"]: mount for mount in server_of(WORKLOAD)["volumeMounts"]}
    assert set(mounts) == {
        "/tmp",
        "/etc/dspy/routes",
        "/etc/dspy/programs/0",
        "/etc/dspy/programs/1",
        "/etc/dspy/programs/2",
        "/etc/dspy/source",
    }
    assert all(mount.get("readOnly") for path, mount in mounts.items() if path != "/tmp")
    volumes = {volume["name"]: volume for volume in pod_of(WORKLOAD)["volumes"]}
    assert volumes["routes"]["configMap"] == {"name": "triage-routes", "optional": True}
    assert volumes["program-2"]["configMap"] == {"name": "triage-slot-2", "optional": True}
    assert volumes["source"]["configMap"] == {"name": "triage-source-3f9a12c4d5e6"}
    without = pod_of(replace(WORKLOAD, source=None))
    assert "source" not in {volume["name"] for volume in without["volumes"]}


def test_the_admin_token_is_mounted_as_a_file_where_there_is_one() -> None:
    serving = {"admin": {"tokenSecret": {"name": "admin", "key": "bearer"}}}
    workload = replace(WORKLOAD, serving=serving)
    mounts = {mount["mountPath"]: mount for mount in server_of(workload)["volumeMounts"]}
    assert mounts["/etc/dspy/admin"] == {
        "name": "admin-token",
        "mountPath": "/etc/dspy/admin",
        "readOnly": True,
    }
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    assert volumes["admin-token"]["secret"] == {
        "secretName": "admin",
        "items": [{"key": "bearer", "path": "token"}],
        "defaultMode": 0o440,
    }
    for without in (WORKLOAD, replace(WORKLOAD, serving={"admin": {}})):
        assert "admin-token" not in {volume["name"] for volume in pod_of(without)["volumes"]}


@pytest.mark.parametrize(("disk", "size"), [({"sizeLimit": "5Gi"}, "5Gi"), ({}, "1Gi")])
def test_the_cache_on_disk_has_a_volume_that_it_may_fill(disk: dict[str, str], size: str) -> None:
    workload = replace(WORKLOAD, serving={"cache": {"disk": {"enabled": True, **disk}}})
    [mount] = [m for m in server_of(workload)["volumeMounts"] if m["name"] == "lm-cache"]
    assert mount == {"name": "lm-cache", "mountPath": "/tmp/dspy-cache"}
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    assert volumes["lm-cache"] == {"name": "lm-cache", "emptyDir": {"sizeLimit": size}}
    for cache in ({}, {"disk": {}}, {"disk": {"enabled": False, **disk}}):
        without = replace(WORKLOAD, serving={"cache": cache})
        assert "lm-cache" not in {volume["name"] for volume in pod_of(without)["volumes"]}


def test_a_pull_secret_is_mounted_for_the_server_and_may_come_later() -> None:
    workload = replace(WORKLOAD, pull_secret="registry")
    [mount] = [m for m in server_of(workload)["volumeMounts"] if m["name"] == "pull"]
    assert mount == {"name": "pull", "mountPath": "/etc/dspy/pull", "readOnly": True}
    volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
    assert volumes["pull"]["secret"] == {"secretName": "registry", "optional": True, "defaultMode": 0o440}
    assert "pull" not in {volume["name"] for volume in pod_of(WORKLOAD)["volumes"]}


def test_pods_have_time_to_finish_their_longest_request() -> None:
    assert pod_of(WORKLOAD)["terminationGracePeriodSeconds"] == 46
    assert "lifecycle" not in server_of(WORKLOAD)


def test_pods_are_restricted() -> None:
    pod, server = pod_of(WORKLOAD), server_of(WORKLOAD)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert server["securityContext"]["readOnlyRootFilesystem"] is True
    assert server["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("has_monitor", "annotated"), [(False, True), (True, False)])
def test_pods_ask_to_be_scraped_unless_a_monitor_does_it(*, has_monitor: bool, annotated: bool) -> None:
    template = build_deployment(replace(WORKLOAD, has_pod_monitor=has_monitor))["spec"]["template"]
    assert ("prometheus.io/scrape" in template["metadata"]["annotations"]) is annotated


def test_the_same_input_in_another_order_gives_the_same_pods() -> None:
    turned = replace(
        WORKLOAD, lm=dict(reversed(LM.items())), scoring=dict(reversed(list(WORKLOAD.scoring.items())))
    )
    assert json.dumps(build_deployment(turned)) == json.dumps(build_deployment(WORKLOAD))


def test_service_and_budget_select_the_servers_and_nothing_else() -> None:
    service, budget = build_service(OWNER, "triage", None), build_budget(OWNER)
    assert service["spec"]["selector"] == budget["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"][names.LABEL_COMPONENT] == "server"
    assert service["spec"]["ports"][0] | {"port": 80, "targetPort": "http"} == service["spec"]["ports"][0]
    assert build_service(OWNER, "triage", "0a1b2c3d")["spec"]["selector"][names.LABEL_WORKLOAD] == "0a1b2c3d"
    assert build_selector_text(OWNER) == (
        "app.kubernetes.io/name=dspy-server,app.kubernetes.io/instance=triage,app.kubernetes.io/component=server"
    )
