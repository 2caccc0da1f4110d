"""What every cluster gets, whichever provider it is from: Prometheus, and the images of the checkout."""

import os
from pathlib import Path
from string import Template

from tests.cluster.docker_images import build_docker_images, has_docker
from tests.cluster.images import NAMES, build_local_images, get_directory
from tests.cluster.provider import Cluster, kubectl
from tests.cluster.state import step, write_atomically

PROMETHEUS_MANIFEST = Path(__file__).parent / "manifests" / "prometheus.yaml"
PROMETHEUS_ADDRESS = "http://prometheus.dspy-monitoring.svc:9090"
DEFAULT_INTERVAL = "2s"


def build_images(cluster: Cluster, names: tuple[str, ...] = NAMES) -> dict[str, str]:
    """Build the images of this checkout and load them; the references that pods use, by name.

    Names are `dspy-operator`, `dspy-server`, `python` (plain Python) and `prometheus`; on demand `traefik` and `envoy`.
    """
    references = {}
    for name, image in (build_docker_images(names) if has_docker() else build_local_images(names)).items():
        with step(f"load {image.reference}"):
            references[name] = cluster.load_image(image)
    return references


def install_prometheus(cluster: Cluster) -> None:
    """Run Prometheus in the cluster, at `PROMETHEUS_ADDRESS`; DSPY_SCRAPE_INTERVAL sets how often it scrapes."""
    image = build_images(cluster, ("prometheus",))["prometheus"]
    interval = os.environ.get("DSPY_SCRAPE_INTERVAL", DEFAULT_INTERVAL)
    manifest = get_directory() / "prometheus.yaml"
    write_atomically(
        manifest, Template(PROMETHEUS_MANIFEST.read_text()).substitute(IMAGE=image, INTERVAL=interval)
    )
    with step("Prometheus"):
        kubectl(cluster, "apply", "--server-side", "--force-conflicts", "-f", str(manifest))
        kubectl(
            cluster, "-n", "dspy-monitoring", "rollout", "status", "deployment/prometheus", "--timeout=180s"
        )
