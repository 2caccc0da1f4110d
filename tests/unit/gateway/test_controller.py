"""The controller's files, and what it remembers of a watch."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from tests.gateway import controller, routing
from tests.gateway.controller import Controller, Files
from tests.gateway.install import MANIFEST, SOURCES, read_code
from tests.gateway.kube import Mirror
from tests.gateway.routing import Config, build_cluster, get_file
from tests.gateway.status import CONTROLLER, HOLD


def build_config(*clusters: str) -> Config:
    endpoints = {name: {"cluster_name": name, "endpoints": []} for name in clusters}
    hosts = [{"name": "*", "domains": ["*"], "routes": list(clusters)}]
    return Config(hosts, {name: build_cluster(name) for name in clusters}, endpoints)


def read_names(directory: Path) -> list[str]:
    return [cluster["name"] for cluster in json.loads((directory / "cds.json").read_text())["resources"]]


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    found: list[set[str]] = []
    monkeypatch.setattr(controller, "wait_for_clusters", lambda names: found.append(set(names)))
    return found


def test_routes_are_written_after_envoy_has_their_clusters_and_old_clusters_go_one_time_later(
    tmp_path: Path, waited: list[set[str]]
) -> None:
    files = Files(tmp_path)
    files.write(build_config("ml/a:80"))
    files.write(build_config("ml/b:80"))
    assert read_names(tmp_path) == ["ml/a:80", "ml/b:80"]
    files.write(build_config("ml/b:80"))
    assert read_names(tmp_path) == ["ml/b:80"]
    assert waited == [{"ml/a:80"}, {"ml/a:80", "ml/b:80"}, {"ml/b:80"}]


def test_each_cluster_has_a_file_of_endpoints_of_its_own_where_its_cluster_looks_for_it(
    tmp_path: Path, waited: list[set[str]]
) -> None:
    Files(tmp_path).write(build_config("ml/a:80", "ml/b:80"))
    for name in ("ml/a:80", "ml/b:80"):
        source = build_cluster(name)["eds_cluster_config"]["eds_config"]["path_config_source"]["path"]
        assert source == f"{routing.DIRECTORY}/{get_file(name)}.json"
        (only,) = json.loads((tmp_path / Path(source).name).read_text())["resources"]
        assert only["cluster_name"] == name


def test_a_file_that_would_be_the_same_is_not_replaced(tmp_path: Path, waited: list[set[str]]) -> None:
    files = Files(tmp_path)
    files.write(build_config("ml/a:80"))
    before = (tmp_path / "rds.json").stat().st_ino
    files.write(build_config("ml/a:80"))
    assert (tmp_path / "rds.json").stat().st_ino == before


def build_seen(held: str) -> dict[str, Any]:
    gateway = {
        "metadata": {"name": "envoy", "namespace": "gw", "generation": 1, "annotations": {HOLD: held}},
        "spec": {"gatewayClassName": "envoy", "listeners": [{"name": "web", "port": 8000}]},
    }
    route = {
        "metadata": {
            "name": "triage",
            "namespace": "ml",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"parentRefs": [{"name": "envoy", "namespace": "gw"}], "rules": [{}]},
    }
    classes = {("", "envoy"): {"metadata": {"generation": 1}, "spec": {"controllerName": CONTROLLER}}}
    return {
        "classes": classes,
        "gateways": {("gw", "envoy"): gateway},
        "routes": {("ml", "triage"): route},
        "services": {},
        "slices": {},
    }


def test_while_routes_are_held_statuses_are_written_and_files_only_when_there_are_none(
    tmp_path: Path, waited: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(controller, "call", lambda method, path, body: written.append(path))
    found = Controller(Files(tmp_path))
    seen = build_seen("true")
    found.pass_once(seen)
    assert found.state == {"held": True, "routes": {"ml/triage": 3}}
    seen["routes"]["ml", "triage"]["metadata"]["generation"] = 4
    seen["routes"]["ml", "triage"]["spec"]["hostnames"] = ["triage.example"]
    written.clear()
    found.pass_once(seen)
    assert "triage.example" not in (tmp_path / "rds.json").read_text()
    assert found.state == {"held": True, "routes": {"ml/triage": 3}}
    assert any(path.endswith("/httproutes/triage/status") for path in written)
    found.pass_once(seen | {"gateways": build_seen("false")["gateways"]})
    assert "triage.example" in (tmp_path / "rds.json").read_text()
    assert found.state == {"held": False, "routes": {"ml/triage": 4}}


def test_a_mirror_follows_a_watch_and_says_when_something_is_new() -> None:
    changed = threading.Event()
    mirror = Mirror("/api/v1/services", changed)
    item = {"metadata": {"namespace": "ml", "name": "a", "resourceVersion": "1"}}
    mirror.take("ADDED", item)
    assert mirror.get() == {("ml", "a"): item}
    assert changed.is_set()
    changed.clear()
    mirror.take("BOOKMARK", {"metadata": {"resourceVersion": "2"}})
    assert not changed.is_set()
    mirror.take("DELETED", item)
    assert mirror.get() == {}


def test_the_pod_carries_every_module_that_the_controller_imports() -> None:
    code = read_code()
    for text in code.values():
        imported = {line.split()[1] for line in text.splitlines() if line.startswith("from tests.")}
        assert {name.removeprefix("tests.gateway.") + ".py" for name in imported} <= set(SOURCES)


def test_the_manifest_is_whole_once_its_blanks_are_filled_in() -> None:
    text = Template(MANIFEST.read_text()).substitute(ENVOY="envoy:1", PYTHON="python:1", CODE="abc")
    objects = list(yaml.safe_load_all(text))
    (config,) = [obj["data"] for obj in objects if obj["kind"] == "ConfigMap"]
    bootstrap = yaml.safe_load(config["envoy.yaml"])
    assert bootstrap["dynamic_resources"]["cds_config"]["path_config_source"]["path"] == "/config/cds.json"
    (found,) = [obj["spec"]["controllerName"] for obj in objects if obj["kind"] == "GatewayClass"]
    assert found == CONTROLLER
