"""The rendered chart before a real API server: every object is valid to the letter, and Helm installs it."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from tests.cluster.api_tier import ApiServer
from tests.cluster.builds import tool

pytestmark = pytest.mark.api

Object = dict[str, Any]
Render = Callable[..., list[Object]]
EVERYTHING = {
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "imagePullSecrets": [{"name": "pull"}],
    "serviceAccount": {"annotations": {"a": "b"}},
    "operator": {"extraEnv": [{"name": "DSPY_OPERATOR_RESYNC", "value": "60"}]},
}


def kubectl(server: ApiServer, *arguments: str, given: str = "", fails: bool = False) -> str:
    done = subprocess.run(
        [tool("kubectl"), "--kubeconfig", server.kubeconfig, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert bool(done.returncode) is fails, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def namespace(api_server: ApiServer) -> str:
    kubectl(api_server, "create", "namespace", "dspy")
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    kubectl(api_server, "label", "namespace", "dspy", restricted)
    return "dspy"


@pytest.mark.parametrize("values", [{}, EVERYTHING, {"scope": {"namespaced": True}}])
def test_the_api_server_accepts_every_object(
    api_server: ApiServer, namespace: str, render: Render, values: Object
) -> None:
    objects = render(values)
    said = kubectl(
        api_server,
        *("create", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"),
        given=yaml.safe_dump_all(objects),
    )
    assert said.count("created (server dry run)") == len(objects)


def test_the_operators_pod_is_admitted_under_pod_security_restricted(
    api_server: ApiServer, namespace: str, render: Render
) -> None:
    (deployment,) = (found for found in render() if found["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    pod["metadata"] = template["metadata"] | {"name": "operator", "namespace": namespace}
    created = kubectl(api_server, "create", "--dry-run=server", "-f", "-", given=json.dumps(pod))
    assert "created (server dry run)" in created
    template["spec"]["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")
    assert "violates PodSecurity" in kubectl(
        api_server, "create", "--dry-run=server", "-f", "-", given=json.dumps(pod), fails=True
    )
