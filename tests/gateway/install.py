"""Envoy in the cluster, as a second data plane: Gateway `envoy` of the namespace `dspy-gateway`, Service `envoy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.addons import build_images
from tests.cluster.gateway import MANIFESTS, apply_manifest, install_gateway_api, wait_for_gateway
from tests.cluster.images import get_directory, short_hash
from tests.cluster.provider import GATEWAY_NAMESPACE, kubectl
from tests.cluster.state import locked, step, write_atomically

if TYPE_CHECKING:
    from tests.cluster.provider import Cluster

HERE = Path(__file__).parent
MANIFEST = HERE / "envoy.yaml"
SOURCES = ("controller.py", "kube.py", "routing.py", "status.py")


def read_code() -> dict[str, str]:
    """The controller's source, by file name."""
    return {name: (HERE / name).read_text() for name in SOURCES}


def install_envoy(cluster: Cluster) -> None:
    """Run Envoy and its controller, and wait until they are ready; a second when they are already."""
    with locked("gateway"):
        install_gateway_api(cluster)
        images = build_images(cluster, ("envoy", "python"))
        code = read_code()
        metadata = {"name": "envoy-controller", "namespace": GATEWAY_NAMESPACE}
        config_map = get_directory() / "envoy-controller.json"
        write_atomically(
            config_map,
            json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": code}),
        )
        with step("Envoy"):
            apply_manifest(cluster, MANIFESTS / "gateway-namespace.yaml")
            kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", str(config_map))
            blanks = {
                "ENVOY": images["envoy"],
                "PYTHON": images["python"],
                "CODE": short_hash(*code.values()),
            }
            apply_manifest(cluster, MANIFEST, **blanks)
            wait_for_gateway(cluster, "envoy", "envoy")
