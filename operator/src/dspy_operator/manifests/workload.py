"""The serving pods: one Deployment per workload, the same whichever artifact it serves.

Nothing in here depends on a revision, a weight or an artifact: any of these would restart the pods.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from dspy_operator.api import names
from dspy_operator.manifests.overlay import merge_pod_template
from dspy_operator.manifests.owner import Manifest, Owner, build_child, build_labels, build_selector

SHUTDOWN_SECONDS: Final = 5 + 10
"""Time to leave the endpoints and to flush, beside the longest request."""
ADMIN_VOLUME: Final = "admin-token"
CACHE_VOLUME: Final = "lm-cache"
CACHE_SIZE: Final = "1Gi"
SECRET_FILE_MODE: Final = 0o440
"""The pod's group reads it."""
ROUTES_VOLUME: Final = "routes"
PROGRAM_VOLUMES: Final = tuple(f"program-{slot}" for slot in range(names.SLOTS))
CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Final[Mapping[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": names.RUN_AS_USER,
    "runAsGroup": names.RUN_AS_USER,
    "fsGroup": names.RUN_AS_USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Workload:
    """What the pods of one workload are made of.

    `lm`, `serving` and `scoring` are parts of the spec as plain JSON. `source` is the name of the ConfigMap
    with the code, None if the image has it; `pull_secret` that of the Secret for remote artifacts. `replicas` None
    leaves the number to whoever set it.
    """

    owner: Owner
    workload: str
    image: str
    module: str
    lm: Mapping[str, Any]
    timeout: timedelta
    replicas: int | None
    source: str | None = None
    pull_secret: str | None = None
    serving: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    pod_template: Mapping[str, Any] = field(default_factory=dict)
    has_pod_monitor: bool = False


def build_deployment(workload: Workload) -> Manifest:
    """The Deployment `<name>-<workload>`.

    Raises:
        errors.InvalidSpec: the user's pod template holds what Pod Security `restricted` forbids.
    """
    owner = workload.owner
    label = {names.LABEL_WORKLOAD: workload.workload}
    deployment = build_child(
        owner, ("apps/v1", "Deployment"), names.deployment_name(owner.name, workload.workload), labels=label
    )
    deployment["spec"] = {
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": build_selector(owner, workload.workload)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": merge_pod_template(build_pod_template(workload), workload.pod_template),
    }
    if workload.replicas is not None:
        deployment["spec"]["replicas"] = workload.replicas
    return deployment


def build_pod_template(workload: Workload) -> Manifest:
    """Our own pod template, before the user's is merged over it."""
    selector = build_selector(workload.owner, workload.workload)
    return {
        "metadata": {
            "labels": build_labels(workload.owner) | selector,
            "annotations": {} if workload.has_pod_monitor else _build_scrape_annotations(),
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": math.ceil(workload.timeout.total_seconds()) + SHUTDOWN_SECONDS,
            "securityContext": dict(POD_SECURITY),
            "containers": [_build_container(workload)],
            "volumes": _build_volumes(workload),
        },
    }


def build_server_config(workload: Workload) -> str:
    """What the server is told: the same parts give the same text, so that pods are not restarted for nothing."""
    serving = {key: value for key, value in workload.serving.items() if key != "podTemplate"}
    config = {
        "module": workload.module,
        "lm": workload.lm,
        "serving": serving,
        "scoring": workload.scoring,
    }
    return json.dumps(config, sort_keys=True, separators=(",", ":"))


def _build_scrape_annotations() -> dict[str, str]:
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(names.PORT_METRICS),
        "prometheus.io/path": names.PATH_METRICS,
    }


def _build_container(workload: Workload) -> Manifest:
    return {
        "name": names.CONTAINER,
        "image": workload.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "env": _build_env(workload),
        "ports": [
            {"name": names.PORT_NAME_HTTP, "containerPort": names.PORT_HTTP, "protocol": "TCP"},
            {"name": names.PORT_NAME_METRICS, "containerPort": names.PORT_METRICS, "protocol": "TCP"},
        ],
        "startupProbe": _build_probe(names.PATH_HEALTH, period=2, failures=90),
        "livenessProbe": _build_probe(names.PATH_HEALTH, period=10, failures=3),
        "readinessProbe": _build_probe(names.PATH_READY, period=2, failures=3),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": _build_mounts(workload),
    }


def _build_probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.PORT_NAME_HTTP},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _build_env(workload: Workload) -> list[Manifest]:
    env: list[Manifest] = [
        {"name": names.ENV_PROGRAM, "value": workload.owner.name},
        {"name": names.ENV_WORKLOAD, "value": workload.workload},
        {"name": names.ENV_SERVER_CONFIG, "value": build_server_config(workload)},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108  an emptyDir: the root file system is read-only
    ]
    targets = [workload.lm.get("primary", {}), *workload.lm.get("fallbacks", [])]
    keys = {names.lm_key_env(index): target.get("apiKeySecret") for index, target in enumerate(targets)}
    judge = workload.scoring.get("judge") or {}
    keys[names.ENV_JUDGE_KEY] = (judge.get("lm") or {}).get("apiKeySecret")
    keys[names.ENV_FEEDBACK_KEY] = workload.scoring.get("feedbackKeySecret")
    keys[names.ENV_REDIS_URL] = (workload.serving.get("cache") or {}).get("redisSecret")
    return env + [_build_secret_env(name, reference) for name, reference in keys.items() if reference]


def _build_secret_env(name: str, reference: Mapping[str, str]) -> Manifest:
    key = {"name": reference["name"], "key": reference["key"]}
    return {"name": name, "valueFrom": {"secretKeyRef": key}}


def _build_volumes(workload: Workload) -> list[Manifest]:
    name = workload.owner.name
    volumes: list[Manifest] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": ROUTES_VOLUME, "configMap": {"name": names.routes_name(name), "optional": True}},
    ]
    volumes += [
        {"name": volume, "configMap": {"name": names.slot_name(name, slot), "optional": True}}
        for slot, volume in enumerate(PROGRAM_VOLUMES)
    ]
    if workload.source:
        volumes.append({"name": "source", "configMap": {"name": workload.source}})
    if token := _find_admin_token(workload):
        secret = {
            "secretName": token["name"],
            "items": [{"key": token["key"], "path": names.ADMIN_KEY}],
            "defaultMode": SECRET_FILE_MODE,
        }
        volumes.append({"name": ADMIN_VOLUME, "secret": secret})
    if (disk := _get_disk(workload)).get("enabled"):
        volumes.append({"name": CACHE_VOLUME, "emptyDir": {"sizeLimit": disk.get("sizeLimit", CACHE_SIZE)}})
    if workload.pull_secret:
        secret = {
            "secretName": workload.pull_secret,
            "optional": True,
            "defaultMode": SECRET_FILE_MODE,
        }
        volumes.append({"name": "pull", "secret": secret})
    return volumes


def _build_mounts(workload: Workload) -> list[Manifest]:
    mounts: list[Manifest] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the only place to write to
        {"name": ROUTES_VOLUME, "mountPath": names.ROUTES_DIR, "readOnly": True},
    ]
    mounts += [
        {"name": volume, "mountPath": f"{names.PROGRAMS_DIR}/{slot}", "readOnly": True}
        for slot, volume in enumerate(PROGRAM_VOLUMES)
    ]
    if workload.source:
        mounts.append({"name": "source", "mountPath": names.SOURCE_DIR, "readOnly": True})
    if _find_admin_token(workload):
        mounts.append({"name": ADMIN_VOLUME, "mountPath": names.ADMIN_DIR, "readOnly": True})
    if _get_disk(workload).get("enabled"):
        mounts.append({"name": CACHE_VOLUME, "mountPath": names.CACHE_DIR})
    if workload.pull_secret:
        mounts.append({"name": "pull", "mountPath": names.PULL_DIR, "readOnly": True})
    return mounts


def _find_admin_token(workload: Workload) -> Mapping[str, str] | None:
    """Where the token of the reload endpoint is: a file, so that no process listing or crash dump shows it."""
    admin: Mapping[str, Any] = workload.serving.get("admin") or {}
    return admin.get("tokenSecret")


def _get_disk(workload: Workload) -> Mapping[str, Any]:
    """The part of the spec about the LM cache on disk: it may fill its own volume, never the pod's scratch."""
    disk: Mapping[str, Any] = (workload.serving.get("cache") or {}).get("disk") or {}
    return disk
