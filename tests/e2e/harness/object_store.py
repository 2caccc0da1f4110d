"""An object store that speaks S3, in a story's namespace: behind TLS of an authority of its own, with keys of its own.

Its objects are the world's artifacts, mounted from their ConfigMaps: `s3://artifacts/triage/NAME.json`.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.cluster.images import build_store_image
from tests.cluster.pki import Pki
from tests.e2e.harness.artifacts import KEY
from tests.e2e.harness.installation import is_ready
from tests.e2e.harness.waiting import wait_for
from tests.restricted import build_pod_spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.e2e.harness.api import Object
    from tests.e2e.harness.artifacts import Artifact
    from tests.e2e.harness.world import World

NAME = "object-store"
BUCKET = "artifacts"
PORT = 7070
KEYS, AUTHORITY, IDENTITY = "object-store-keys", "object-store-authority", "object-store-identity"
DATA, CERTIFICATES = "/data", "/certificates"
TRUST = "/etc/authority"
SECONDS = 60


def get_uri(artifact: Artifact) -> str:
    """Where an artifact lies."""
    return f"s3://{BUCKET}/triage/{artifact.name}.json"


def with_remote(obj: Object, artifact: Artifact, sha256: str | None = None) -> Object:
    """A copy of a DSPyDeployment that names an artifact of the store, by another digest if one is given."""
    changed = deepcopy(obj)
    changed["spec"]["program"]["artifact"] = {
        "uri": get_uri(artifact),
        "sha256": sha256 or artifact.sha256,
        "pullSecret": {"name": KEYS},
    }
    return changed


def with_trust(obj: Object) -> Object:
    """A copy whose pods trust the store's authority, as `docs/artifacts.md` says it."""
    changed = deepcopy(obj)
    spec = changed["spec"]["serving"]["podTemplate"]["spec"]
    spec["volumes"] = [{"name": "authority", "configMap": {"name": AUTHORITY}}]
    server = spec["containers"][0]
    server["env"] = [{"name": "SSL_CERT_FILE", "value": f"{TRUST}/ca.crt"}]
    server["volumeMounts"] = [{"name": "authority", "mountPath": TRUST, "readOnly": True}]
    return changed


def start_store(world: World) -> None:
    """Run the store in the world's namespace and wait until it is ready."""
    image = world.installation.cluster.load_image(build_store_image())
    world.api.apply(*build_store_objects(world.namespace, image, world.artifacts.values()))
    wait_for_store(world, 1)


def scale_store(world: World, replicas: int) -> None:
    """Stop the store (0) or start it (1), and wait until it has or is ready."""
    world.api.merge("Deployment", world.namespace, NAME, {"spec": {"replicas": replicas}})
    wait_for_store(world, replicas)


def wait_for_store(world: World, replicas: int) -> None:
    """The store with so many pods, all ready."""

    def is_done() -> bool:
        pods = world.api.list_("Pod", world.namespace, f"app.kubernetes.io/name={NAME}")
        return len(pods) == replicas and all(is_ready(pod) for pod in pods)

    wait_for(f"the object store with {replicas} pods", is_done, SECONDS, tell=world.tell)


def build_store_objects(namespace: str, image: str, artifacts: Iterable[Artifact]) -> list[Object]:
    """Keys, certificates, Service and Deployment of the store; the artifacts' ConfigMaps are there already."""
    authority, certificate, key = issue_certificate(f"{NAME}.{namespace}.svc")
    keys = {
        "AWS_ACCESS_KEY_ID": "stories",
        "AWS_SECRET_ACCESS_KEY": "only-for-the-stories",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"https://{NAME}.{namespace}.svc:{PORT}",
    }
    labels = {"app.kubernetes.io/name": NAME}
    service = {"selector": labels, "ports": [{"name": "s3", "port": PORT}]}
    deployment = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": build_pod(image, artifacts)},
    }
    metadata = {"namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata | {"name": KEYS}, "stringData": keys},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata | {"name": IDENTITY},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata | {"name": AUTHORITY},
            "data": {"ca.crt": authority},
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata | {"name": NAME}, "spec": service},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata | {"name": NAME},
            "spec": deployment,
        },
    ]


def build_pod(image: str, artifacts: Iterable[Artifact]) -> Object:
    """The pod: one read-only file for each artifact, in the directory that is the bucket."""
    volumes: list[Object] = [
        {"name": "data", "emptyDir": {}},
        {"name": "certificates", "secret": {"secretName": IDENTITY}},
    ]
    mounts: list[Object] = [
        {"name": "data", "mountPath": DATA},
        {"name": "certificates", "mountPath": CERTIFICATES, "readOnly": True},
    ]
    for number, artifact in enumerate(artifacts):
        place = f"{DATA}/{get_uri(artifact).removeprefix('s3://')}"
        volumes.append({"name": f"object-{number}", "configMap": {"name": artifact.config_map}})
        mounts.append({"name": f"object-{number}", "mountPath": place, "subPath": KEY, "readOnly": True})
    tls = (f"--cert={CERTIFICATES}/tls.crt", f"--key={CERTIFICATES}/tls.key")
    keys = (("ROOT_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"), ("ROOT_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"))
    container = {
        "name": "store",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--port=:{PORT}", *tls, "--quiet", "posix", "--nometa", DATA],
        "env": [{"name": n, "valueFrom": {"secretKeyRef": {"name": KEYS, "key": k}}} for n, k in keys],
        "ports": [{"name": "s3", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "s3"}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": mounts,
    }
    return build_pod_spec(container, terminationGracePeriodSeconds=1, volumes=volumes)


def issue_certificate(host: str) -> tuple[str, str, str]:
    """An authority's certificate, and certificate and key of a server of that name, as PEM."""
    with TemporaryDirectory() as directory:
        pki = Pki(Path(directory) / "pki")
        pki.ensure_authority()
        pki.ensure_certificate("server", f"/CN={NAME}", (f"DNS:{host}",))
        return pki.ca.read_text(), pki.certificate("server").read_text(), pki.key("server").read_text()
