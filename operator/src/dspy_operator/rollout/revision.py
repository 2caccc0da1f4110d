"""What makes a revision: the spec's part that decides which pods and which bytes answer, and its two hashes.

A hash names Deployments and revisions of running clusters: the same input must give the same hash for ever.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dspy_operator.api.spec import DeploymentSpec, Lm

WORKLOAD_LENGTH = 8
REVISION_LENGTH = 10
_CONTAINER_LISTS = ("containers", "initContainers")


def workload_hash(spec: DeploymentSpec, image: str, source_digest: str) -> str:
    """Hash (8 hex) of what a pod runs: image, source, module, lm, the template's env, volumes, resources, account.

    `image` is the resolved one (the operator's own when the spec names none), `source_digest` the digest of
    the code's files, empty without `program.source`.
    """
    template = (spec.serving.pod_template if spec.serving else None) or {}
    parts = {
        "image": image,
        "source": source_digest,
        "module": spec.program.module,
        "lm": get_lm_part(spec.lm),
        "template": get_template_part(template),
    }
    return _digest(parts)[:WORKLOAD_LENGTH]


def revision_hash(workload: str, sha256: str) -> str:
    """Hash (10 hex) of one artifact (64 hex) on one workload (8 hex)."""
    return _digest({"workload": workload, "sha256": sha256})[:REVISION_LENGTH]


def get_lm_part(lm: Lm) -> dict[str, Any]:
    """`spec.lm` as the wire says it; an empty value is the same as none, `60s` the same as `1m`."""
    part = _without_empty(lm.to_wire())
    return part if isinstance(part, dict) else {}


def get_template_part(template: Mapping[str, Any]) -> dict[str, Any]:
    """The pod template's share of a workload: env, volumes, resources and service account, in one fixed order.

    Order counts only where it counts for Kubernetes: in `envFrom` (the last wins) and in an `env` whose
    values refer to one another by `$(NAME)`.
    """
    spec = _get_mapping(template, "spec")
    part: dict[str, Any] = {
        kind: {
            str(container.get("name", "")): _get_container_part(container)
            for container in _list_mappings(spec, kind)
            if _get_container_part(container)
        }
        for kind in _CONTAINER_LISTS
    }
    part["volumes"] = _sorted_by("name", _list_mappings(spec, "volumes"))
    part["serviceAccountName"] = spec.get("serviceAccountName", spec.get("serviceAccount"))
    return {key: _without_null(value) for key, value in part.items() if value}


def replace_template_part(template: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """The template of now with another workload's share: pods of that workload, scheduled as of now."""
    spec = dict(_get_mapping(template, "spec"))
    for kind in _CONTAINER_LISTS:
        spec[kind] = _replace_containers(_list_mappings(spec, kind), _get_mapping(part, kind))
    spec["volumes"] = list(part.get("volumes", []))
    spec.pop("serviceAccount", None)
    spec["serviceAccountName"] = part.get("serviceAccountName")
    return {**template, "spec": {key: value for key, value in spec.items() if value not in ([], None)}}


def _replace_containers(now: list[Mapping[str, Any]], part: Mapping[str, Any]) -> list[dict[str, Any]]:
    own = {"env", "envFrom", "volumeMounts", "resources"}
    kept = {str(c.get("name", "")): {k: v for k, v in c.items() if k not in own} for c in now}
    names = [*kept, *(name for name in part if name not in kept)]
    return [{"name": name, **kept.get(name, {}), **_get_mapping(part, name)} for name in names]


def _get_container_part(container: Mapping[str, Any]) -> dict[str, Any]:
    env = _list_mappings(container, "env")
    has_references = any("$(" in str(entry.get("value", "")) for entry in env)
    part = {
        "env": env if has_references else _sorted_by("name", env),
        "envFrom": _list_mappings(container, "envFrom"),
        "volumeMounts": _sorted_by("mountPath", _list_mappings(container, "volumeMounts")),
        "resources": _get_mapping(container, "resources"),
    }
    return {key: value for key, value in part.items() if value}


def _get_mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _list_mappings(parent: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = parent.get(key)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _sorted_by(key: str, entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(entries, key=lambda entry: str(entry.get(key, "")))


def _without_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_null(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_null(inner) for inner in value]
    return value


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        parts = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in parts.items() if inner not in ("", [], {}, None)}
    if isinstance(value, list):
        return [_without_empty(inner) for inner in value]
    return value


def _digest(parts: Mapping[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
