"""What the chart renders for the values that people set."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dspy_operator.settings import OperatorSettings

pytestmark = pytest.mark.tools

Object = dict[str, Any]
Render = Callable[..., list[Object]]
POD_MONITOR = "monitoring.coreos.com/v1/PodMonitor"


def named(objects: list[Object]) -> dict[tuple[str, str], Object]:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def get_pod_spec(objects: list[Object]) -> Object:
    deployment = named(objects)["Deployment", "demo-dspy-operator"]
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def get_environment(objects: list[Object]) -> dict[str, str]:
    """The container's variables; for one that the kubelet fills in the field that it takes."""
    variables = get_pod_spec(objects)["containers"][0]["env"]
    return {v["name"]: v.get("value") or v["valueFrom"]["fieldRef"]["fieldPath"] for v in variables}


@pytest.fixture(scope="module")
def default(render: Render) -> list[Object]:
    return render()


def test_the_default_release_has_these_objects_and_no_more(default: list[Object]) -> None:
    assert sorted(named(default)) == [
        ("ClusterRole", "demo-dspy-operator"),
        ("ClusterRole", "demo-dspy-operator-edit"),
        ("ClusterRole", "demo-dspy-operator-view"),
        ("ClusterRoleBinding", "demo-dspy-operator"),
        ("CustomResourceDefinition", "dspydeployments.dspy-operator.io"),
        ("CustomResourceDefinition", "dspyrollouts.dspy-operator.io"),
        ("Deployment", "demo-dspy-operator"),
        ("Role", "demo-dspy-operator-lease"),
        ("RoleBinding", "demo-dspy-operator-lease"),
        ("Service", "demo-dspy-operator-metrics"),
        ("ServiceAccount", "demo-dspy-operator"),
    ]


def test_one_operator_runs_and_its_successor_waits_until_it_is_gone(default: list[Object]) -> None:
    spec = named(default)["Deployment", "demo-dspy-operator"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_operator_is_restricted(default: list[Object]) -> None:
    pod = get_pod_spec(default)
    (container,) = pod["containers"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi"},
        "limits": {"memory": "256Mi"},
    }


def test_the_operator_is_probed_and_scraped_where_it_listens(default: list[Object]) -> None:
    (container,) = get_pod_spec(default)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": 9090, "health": 8081}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    startup = container["startupProbe"]
    assert startup["httpGet"] == container["livenessProbe"]["httpGet"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 120
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    assert container["args"] == ["run"]


def test_values_reach_the_operator_as_settings(render: Render) -> None:
    settings = {"checkpointIntervalSeconds": 5, "lookTickSeconds": 2, "workers": 4, "logLevel": "debug"}
    extra = {"extraEnv": [{"name": "DSPY_OPERATOR_RESYNC", "value": "60"}]}
    assert get_environment(render({"operator": settings | {"logJson": False} | extra})) == {
        "DSPY_OPERATOR_PROMETHEUS_URL": "http://prometheus.monitoring.svc:9090",
        "DSPY_OPERATOR_SERVING_IMAGE": "registry.test/dspy-server:1",
        "DSPY_OPERATOR_LEASE_NAMESPACE": "dspy",
        "DSPY_OPERATOR_LEASE_NAME": "demo-dspy-operator",
        "DSPY_OPERATOR_POD_UID": "metadata.uid",
        "DSPY_OPERATOR_CHECKPOINT_INTERVAL": "5",
        "DSPY_OPERATOR_LOOK_TICK": "2",
        "DSPY_OPERATOR_WORKERS": "4",
        "DSPY_OPERATOR_LOG_LEVEL": "debug",
        "DSPY_OPERATOR_LOG_JSON": "false",
        "DSPY_OPERATOR_RESYNC": "60",
    }


def test_the_operator_understands_every_setting(
    default: list[Object], render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = get_environment(default) | get_environment(render({"scope": {"namespaced": True}}))
    names = {name.removeprefix("DSPY_OPERATOR_").lower() for name in environment}
    assert names <= set(OperatorSettings.model_fields)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = OperatorSettings()
    assert (settings.namespace, settings.lease_namespace, settings.checkpoint_interval) == (
        "dspy",
        "dspy",
        60,
    )
    assert (settings.metrics_port, settings.health_port) == (9090, 8081)


def test_crds_stay_when_the_release_goes(default: list[Object], render: Render) -> None:
    crds = [found for found in default if found["kind"] == "CustomResourceDefinition"]
    assert [crd["metadata"]["annotations"] for crd in crds] == [{"helm.sh/resource-policy": "keep"}] * 2
    loose = [f for f in render({"crds": {"keep": False}}) if f["kind"] == "CustomResourceDefinition"]
    assert [crd["metadata"].get("annotations") for crd in loose] == [None, None]
    assert [crd["spec"] for crd in crds] == [crd["spec"] for crd in loose]


def test_crds_can_be_left_to_someone_else(render: Render) -> None:
    kinds = {found["kind"] for found in render({"crds": {"install": False}})}
    assert "CustomResourceDefinition" not in kinds


def test_a_namespaced_operator_watches_its_namespace_only(render: Render) -> None:
    objects = render({"scope": {"namespaced": True}, "rbac": {"aggregate": False}})
    assert not {found["kind"] for found in objects} & {"ClusterRole", "ClusterRoleBinding"}
    assert get_environment(objects)["DSPY_OPERATOR_NAMESPACE"] == "dspy"


def test_the_pod_is_scraped_by_annotation_or_by_a_pod_monitor_and_never_by_both(render: Render) -> None:
    for apis, enabled in itertools.product([(), (POD_MONITOR,)], [True, False]):
        objects = named(render({"metrics": {"podMonitor": {"enabled": enabled}}}, apis))
        template = objects["Deployment", "demo-dspy-operator"]["spec"]["template"]
        by_annotation = template["metadata"]["annotations"].get("prometheus.io/scrape") == "true"
        by_monitor = ("PodMonitor", "demo-dspy-operator") in objects
        assert by_annotation is not by_monitor
        assert by_monitor is (enabled and bool(apis))


def test_the_network_policy_lets_out_to_the_api_server_dns_and_prometheus_only(render: Render) -> None:
    policy = {"enabled": True, "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [6443]}}
    objects = named(render({"networkPolicy": policy}))
    spec = objects["NetworkPolicy", "demo-dspy-operator"]["spec"]
    assert spec["egress"] == [
        {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
        {"ports": [{"protocol": "TCP", "port": 6443}], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
        {"ports": [{"protocol": "TCP", "port": 9090}]},
    ]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["health", "metrics"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("url", "port"),
    [("http://prometheus", 80), ("https://prometheus/prefix", 443), ("http://prometheus:9091/", 9091)],
)
def test_the_network_policy_knows_the_port_of_prometheus(render: Render, url: str, port: int) -> None:
    objects = named(render({"prometheus": {"url": url}, "networkPolicy": {"enabled": True}}))
    egress = objects["NetworkPolicy", "demo-dspy-operator"]["spec"]["egress"]
    assert egress[-1] == {"ports": [{"protocol": "TCP", "port": port}]}


def test_names_follow_the_release_and_can_be_chosen(render: Render) -> None:
    objects = named(
        render({"fullnameOverride": "mine", "serviceAccount": {"create": False, "name": "theirs"}})
    )
    assert ("Deployment", "mine") in objects
    assert ("ServiceAccount", "theirs") not in objects
    assert objects["ClusterRoleBinding", "mine"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "theirs", "namespace": "dspy"}
    ]


def test_scheduling_and_labels_reach_the_pod(render: Render) -> None:
    knobs = {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}],
    }
    pod = get_pod_spec(render(knobs | {"podLabels": {"team": "ml"}, "podAnnotations": {"a": "b"}}))
    assert {knob: pod[knob] for knob in knobs} == knobs
