"""Gateways as add-ons: Gateway API's CRDs and Traefik with its own controller, a Gateway `public` on port 80.

No cluster gets them when it starts. Who needs one calls `install_gateway`, which costs a second when it is there.
"""

import json
import subprocess
from pathlib import Path
from string import Template

from tests.cluster.addons import build_images
from tests.cluster.builds import get_go
from tests.cluster.images import get_directory
from tests.cluster.processes import ClusterError
from tests.cluster.provider import GATEWAY_NAMESPACE, Cluster, kubectl
from tests.cluster.state import locked, step, write_atomically
from tests.cluster.versions import get_version

MANIFESTS = Path(__file__).parent / "manifests"
MODULE = "sigs.k8s.io/gateway-api"
CHANNEL = "config/crd/standard"
ROUTES = "httproutes.gateway.networking.k8s.io"
BUNDLE = "jsonpath={.metadata.annotations.gateway\\.networking\\.k8s\\.io/bundle-version}"
READY_SECONDS = 120


def get_gateway_api() -> Path:
    """The directory of Gateway API's CRDs, standard channel, from Go's module cache; downloaded when missing.

    Raises:
        ClusterError: the module cannot be had, or is not the one whose hash versions.env names.
    """
    version = f"v{get_version('GATEWAY_API')}"
    command = (get_go()[0], "mod", "download", "-json", f"{MODULE}@{version}")
    # Not below this checkout: none of our modules requires it.
    done = subprocess.run(command, cwd=get_directory(), capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}")
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {found.get('Error', done.stderr)}")
    if found["Sum"] != get_version("GATEWAY_API_SUM"):
        raise ClusterError(f"{MODULE} {version} is {found['Sum']}, and GATEWAY_API_SUM names another.")
    return Path(found["Dir"]) / CHANNEL


def install_gateway_api(cluster: Cluster) -> None:
    """Gateway API's CRDs. Those of somebody's own cluster stay as they are, whatever their version."""
    found = kubectl(cluster, "get", "crd", ROUTES, "--ignore-not-found", "-o", BUNDLE)
    if found == f"v{get_version('GATEWAY_API')}" or (found and cluster.name == "existing"):
        return
    with step("Gateway API"):
        kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", str(get_gateway_api()))
        kubectl(cluster, "wait", "--for=condition=Established", f"crd/{ROUTES}", "--timeout=60s")


def install_gateway(cluster: Cluster) -> None:
    """Run Traefik in the cluster: Gateway `public` of the namespace `dspy-gateway`, Service `gateway` on port 80."""
    with locked("gateway"):
        install_gateway_api(cluster)
        image = build_images(cluster, ("traefik",))["traefik"]
        with step("Traefik"):
            apply_manifest(cluster, MANIFESTS / "gateway-namespace.yaml")
            apply_manifest(cluster, MANIFESTS / "gateway.yaml", IMAGE=image)
            wait_for_gateway(cluster, "traefik", "public")


def apply_manifest(cluster: Cluster, template: Path, **blanks: str) -> None:
    """Apply a manifest after its blanks are filled in."""
    manifest = get_directory() / template.name
    write_atomically(manifest, Template(template.read_text()).substitute(blanks))
    kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", str(manifest))


def wait_for_gateway(cluster: Cluster, deployment: str, gateway: str) -> None:
    """A gateway's pods are ready, and its controller has taken the Gateway."""
    within = ("-n", GATEWAY_NAMESPACE)
    kubectl(cluster, *within, "rollout", "status", f"deployment/{deployment}", f"--timeout={READY_SECONDS}s")
    programmed = ("wait", "--for=condition=Programmed", f"gateway/{gateway}", f"--timeout={READY_SECONDS}s")
    kubectl(cluster, *within, *programmed)
