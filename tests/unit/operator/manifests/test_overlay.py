"""The user's pod template over ours: what it may add, what it may not touch, what Pod Security forbids."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.operator.manifests.test_workload import WORKLOAD

from dspy_operator.api import names
from dspy_operator.errors import InvalidSpec
from dspy_operator.manifests.workload import build_deployment, build_pod_template

KEYS = [
    "name",
    "labels",
    "annotations",
    "env",
    "ports",
    "hostPort",
    "volumeMounts",
    "mountPath",
    "securityContext",
    "capabilities",
    "add",
    "drop",
    "seccompProfile",
    "type",
    "sysctls",
    "runAsUser",
    "procMount",
    "lifecycle",
    "preStop",
    "httpGet",
    "host",
    "image",
    "hostPath",
]
POD_KEYS = ["volumes", "securityContext", "imagePullSecrets", "tolerations", "initContainers", "hostNetwork"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
SERVER_KEYS = st.sampled_from(
    ["env", "ports", "volumeMounts", "securityContext", "resources", "lifecycle", "livenessProbe"]
)


def merged(template: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = build_deployment(replace(WORKLOAD, pod_template=template))["spec"]["template"]
    return result


def server(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "server", **fields}]}}


def sidecar(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "proxy", "image": "registry/proxy:1", **fields}]}}


def test_an_empty_template_changes_nothing() -> None:
    assert merged({}) == build_pod_template(WORKLOAD)
    assert merged({"metadata": None, "spec": {"containers": [], "nodeSelector": None}}) == merged({})


def test_lists_merge_by_their_keys() -> None:
    template = merged(
        server(
            env=[{"name": "HOME", "value": "/data"}, {"name": "MODE", "value": "fast"}],
            volumeMounts=[{"name": "data", "mountPath": "/data"}],
            ports=[{"containerPort": 8080, "name": "web"}, {"containerPort": 7000}],
            resources={"limits": {"memory": "1Gi"}},
        )
        | {"metadata": {"labels": {"team": "support"}}}
    )
    (container,) = template["spec"]["containers"]
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["HOME"] == {"name": "HOME", "value": "/data"}
    assert env["MODE"]["value"] == "fast"
    assert env[names.ENV_PROGRAM]["value"] == "triage"
    assert [(port["containerPort"], port.get("name")) for port in container["ports"]] == [
        (8080, "web"),
        (9090, "metrics"),
        (7000, None),
    ]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert len(container["volumeMounts"]) == 7
    assert template["metadata"]["labels"]["team"] == "support"
    assert template["metadata"]["labels"][names.LABEL_WORKLOAD] == "0a1b2c3d"


def test_a_variable_has_one_value_and_the_users_replaces_ours() -> None:
    value_from = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    (container,) = merged(server(env=[{"name": "HOME", **value_from}]))["spec"]["containers"]
    assert {"name": "HOME", **value_from} in container["env"]


def test_lists_without_keys_are_replaced() -> None:
    tolerations = [{"key": "gpu", "operator": "Exists"}]
    template = merged({"spec": {"tolerations": tolerations, "imagePullSecrets": [{"name": "registry"}]}})
    assert template["spec"]["tolerations"] == tolerations
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_a_sidecar_is_made_restricted_where_it_does_not_say_so() -> None:
    ours, theirs = merged(sidecar())["spec"]["containers"]
    assert ours["name"] == "server"
    assert theirs["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"spec": {"hostNetwork": True}}, "spec.hostNetwork"),
    ({"spec": {"hostPID": True}}, "spec.hostPID"),
    ({"spec": {"hostIPC": True}}, "spec.hostIPC"),
    ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
    ({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "spec.volumes[0].hostPath"),
    ({"spec": {"volumes": [{"name": "x", "nfs": {"server": "x", "path": "/"}}]}}, "spec.volumes[0].nfs"),
    ({"spec": {"securityContext": {"runAsNonRoot": False}}}, "spec.securityContext.runAsNonRoot"),
    ({"spec": {"securityContext": {"runAsUser": 0}}}, "spec.securityContext.runAsUser"),
    (
        {"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}},
        "spec.securityContext.seccompProfile.type",
    ),
    ({"spec": {"securityContext": {"sysctls": [{"name": "kernel.x"}]}}}, "spec.securityContext.sysctls[0]"),
    (
        {"spec": {"securityContext": {"seLinuxOptions": {"user": "root"}}}},
        "spec.securityContext.seLinuxOptions",
    ),
    (
        {"spec": {"securityContext": {"windowsOptions": {"hostProcess": True}}}},
        "spec.securityContext.windowsOptions.hostProcess",
    ),
    (server(securityContext={"privileged": True}), "spec.containers[0].securityContext.privileged"),
    (
        server(securityContext={"allowPrivilegeEscalation": True}),
        "spec.containers[0].securityContext.allowPrivilegeEscalation",
    ),
    (
        server(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "spec.containers[0].securityContext.capabilities.add",
    ),
    (
        server(securityContext={"capabilities": {"drop": ["KILL"]}}),
        "spec.containers[0].securityContext.capabilities.drop",
    ),
    (server(securityContext={"procMount": "Unmasked"}), "spec.containers[0].securityContext.procMount"),
    (
        server(securityContext={"appArmorProfile": {"type": "Unconfined"}}),
        "spec.containers[0].securityContext.appArmorProfile.type",
    ),
    (server(ports=[{"containerPort": 1, "hostPort": 1}]), "spec.containers[0].ports[0].hostPort"),
    (
        server(livenessProbe={"httpGet": {"host": "x", "port": 1}}),
        "spec.containers[0].livenessProbe.httpGet.host",
    ),
    (
        server(lifecycle={"preStop": {"tcpSocket": {"host": "x", "port": 1}}}),
        "spec.containers[0].lifecycle.preStop.tcpSocket.host",
    ),
    (
        {
            "spec": {
                "initContainers": [{"name": "x", "image": "r/x:1", "securityContext": {"privileged": True}}]
            }
        },
        "spec.initContainers[0].securityContext.privileged",
    ),
    (server(image="registry/other:1"), "spec.containers[0].image"),
    (server(command=["sh"]), "spec.containers[0].command"),
    (server(args=["x"]), "spec.containers[0].args"),
    (server(env=[{"name": "A"}, {"name": "DSPY_PROGRAM", "value": "x"}]), "spec.containers[0].env[1].name"),
    (server(env=[{"name": "DSPY_LM_KEY_0", "value": "x"}]), "spec.containers[0].env[0].name"),
    (
        server(volumeMounts=[{"mountPath": "/etc/dspy/routes/x"}]),
        "spec.containers[0].volumeMounts[0].mountPath",
    ),
    (server(volumeMounts=[{"mountPath": "/etc"}]), "spec.containers[0].volumeMounts[0].mountPath"),
    (server(volumeMounts=[{"mountPath": "/tmp/"}]), "spec.containers[0].volumeMounts[0].mountPath"),
    ({"spec": {"volumes": [{"name": "routes", "emptyDir": {}}]}}, "spec.volumes[0].name"),
    ({"metadata": {"labels": {names.LABEL_WORKLOAD: "x"}}}, f"metadata.labels[{names.LABEL_WORKLOAD}]"),
    (
        {"metadata": {"annotations": {names.ANNOTATION_ROUTES_GENERATION: "1"}}},
        f"metadata.annotations[{names.ANNOTATION_ROUTES_GENERATION}]",
    ),
    ({"spec": []}, "spec"),
    ({"spec": {"containers": {}}}, "spec.containers"),
    ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0]"),
    ({"spec": {"containers": [{"name": "server", "env": ["A"]}]}}, "spec.containers[0].env"),
    ({"metadata": {"labels": 5}}, "metadata.labels"),
    ({"spec": {"securityContext": {"sysctls": 5}}}, "spec.securityContext.sysctls"),
    ({"spec": {"securityContext": {"sysctls": [{"name": {}}]}}}, "spec.securityContext.sysctls[0].name"),
    ({"spec": {"imagePullSecrets": [{"name": {}}]}}, "spec.imagePullSecrets[0].name"),
    ({"spec": {"imagePullSecrets": "x"}}, "spec.imagePullSecrets"),
    (
        server(securityContext={"capabilities": {"add": [{}]}}),
        "spec.containers[0].securityContext.capabilities.add",
    ),
    (
        server(securityContext={"capabilities": {"drop": 5}}),
        "spec.containers[0].securityContext.capabilities.drop",
    ),
    (
        server(securityContext={"seccompProfile": {"type": []}}),
        "spec.containers[0].securityContext.seccompProfile.type",
    ),
    (server(env=[{"name": {}}]), "spec.containers[0].env[0].name"),
    (server(volumeMounts=[{"mountPath": ["x"]}]), "spec.containers[0].volumeMounts[0].mountPath"),
    ({"spec": {"terminationGracePeriodSeconds": {}}}, "spec.terminationGracePeriodSeconds"),
    ({"spec": {"topologySpreadConstraints": [{}]}}, "spec.topologySpreadConstraints[0]"),
]


@pytest.mark.parametrize(("template", "field"), FORBIDDEN, ids=[field for _, field in FORBIDDEN])
def test_what_is_forbidden_is_refused_by_its_field(template: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        merged(template)
    assert caught.value.field == f"spec.serving.podTemplate.{field}"


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "x"}}]}},
        {"spec": {"securityContext": {"runAsUser": 1000, "sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}},
        server(securityContext={"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}),
        server(
            volumeMounts=[{"name": "data", "mountPath": "/etc/dspyx"}, {"name": "d", "mountPath": "/tmp/x"}]
        ),
        server(lifecycle={"preStop": {"sleep": {"seconds": 1}}}, readinessProbe={"periodSeconds": 9}),
    ],
)
def test_what_is_not_forbidden_is_taken(template: dict[str, Any]) -> None:
    assert merged(template) != merged({})


def is_merged_or_refused(template: dict[str, Any]) -> bool:
    try:
        return names.LABEL_WORKLOAD in merged(template)["metadata"]["labels"]
    except InvalidSpec as error:
        return error.field.startswith("spec.serving.podTemplate")


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "x"]), JSON, max_size=3))
def test_nonsense_is_merged_or_refused_and_never_an_accident(template: dict[str, Any]) -> None:
    assert is_merged_or_refused(template)


@given(
    st.dictionaries(st.sampled_from(POD_KEYS), JSON, max_size=3),
    st.dictionaries(SERVER_KEYS, JSON, max_size=3),
)
def test_nonsense_in_the_right_places_is_no_accident_either(
    pod: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert is_merged_or_refused({"spec": {**pod, "containers": [{"name": "server", **fields}]}})
