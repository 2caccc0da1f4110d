"""The user's partial pod template over ours: lists merge by the keys that server-side apply uses.

What Pod Security `restricted` forbids, and what is the operator's own, is refused first (`restricted.py`).
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from dspy_operator import errors
from dspy_operator.api import names
from dspy_operator.manifests.restricted import check_restricted
from dspy_operator.manifests.shapes import check_shapes

FIELD: Final = "spec.serving.podTemplate"

LIST_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "claims": ("name",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
}
"""Lists that merge, and by what; every other list is replaced as a whole."""
_LIST_DEFAULTS: Final = {"protocol": "TCP"}
_OUR_FILES: Final = PurePosixPath(names.SOURCE_DIR).parent
_OUR_SCRATCH: Final = PurePosixPath("/tmp")  # noqa: S108  an emptyDir, the only place to write to
_SIDECAR_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


def merge_pod_template(ours: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """Our template with the user's merged over it.

    Raises:
        errors.InvalidSpec: naming the field that is forbidden, is the operator's own, or has a wrong shape.
    """
    if not users:
        return dict(ours)
    check_shapes(users, FIELD)
    check_restricted(users, FIELD)
    _check_ours(ours, users)
    merged = _merge_mapping(ours, users, FIELD)
    for kind in ("containers", "initContainers"):
        merged["spec"][kind] = [_secure(container) for container in merged["spec"].get(kind, [])]
    return {**merged, "spec": {key: value for key, value in merged["spec"].items() if value != []}}


def _secure(container: Mapping[str, Any]) -> dict[str, Any]:
    """A container of the user's own gets what `restricted` asks of each container, where it does not say so."""
    security = _merge_mapping(_SIDECAR_SECURITY, container.get("securityContext") or {}, FIELD)
    return {**container, "securityContext": security}


def _merge_mapping(ours: Mapping[str, Any], users: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(ours)
    for key, value in users.items():
        if value is not None:
            merged[key] = _merge_value(key, ours.get(key), value, f"{path}.{key}")
    return merged


def _merge_value(key: str, ours: Any, users: Any, path: str) -> Any:
    if isinstance(ours, Mapping) != isinstance(users, Mapping) and ours is not None:
        raise errors.InvalidSpec(path, "has the wrong type for a pod template")
    if isinstance(users, Mapping):
        return _merge_mapping(ours or {}, users, path)
    if isinstance(users, list) and key in LIST_KEYS:
        return _merge_list(LIST_KEYS[key], ours or [], users, path)
    if isinstance(ours, list) != isinstance(users, list) and ours is not None:
        raise errors.InvalidSpec(path, "has the wrong type for a pod template")
    return users


def _merge_list(keys: tuple[str, ...], ours: list[Any], users: list[Any], path: str) -> list[Any]:
    merged = {_get_identity(keys, entry, path): entry for entry in ours}
    for index, entry in enumerate(users):
        here = f"{path}[{index}]"
        identity = _get_identity(keys, entry, here)
        merged[identity] = _merge_entry(keys, merged.get(identity, {}), entry, here)
    return list(merged.values())


def _merge_entry(keys: tuple[str, ...], ours: Mapping[str, Any], users: Any, path: str) -> dict[str, Any]:
    """One list entry; an environment variable has one value, so the user's replaces ours whole."""
    whole = keys == ("name",) and ("value" in users or "valueFrom" in users)
    return _merge_mapping({} if whole else ours, users, path)


def _get_identity(keys: tuple[str, ...], entry: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(entry, Mapping) or keys[0] not in entry:
        raise errors.InvalidSpec(path, f"needs {keys[0]}")
    return tuple(entry.get(key, _LIST_DEFAULTS.get(key)) for key in keys)


def _check_ours(ours: Mapping[str, Any], users: Mapping[str, Any]) -> None:
    """Refuse what pods must have from us: selector labels, our variables, volumes and mount paths."""
    metadata = users.get("metadata") or {}
    for label in metadata.get("labels") or {}:
        if label in ours["metadata"]["labels"]:
            raise errors.InvalidSpec(f"{FIELD}.metadata.labels[{label}]", "is the operator's own label")
    if names.ANNOTATION_ROUTES_GENERATION in (metadata.get("annotations") or {}):
        path = f"{FIELD}.metadata.annotations[{names.ANNOTATION_ROUTES_GENERATION}]"
        raise errors.InvalidSpec(path, "is the operator's own annotation")
    spec = users.get("spec") or {}
    _refuse("volumes", "name", spec.get("volumes"), {entry["name"] for entry in ours["spec"]["volumes"]})
    for index, container in enumerate(spec.get("containers") or []):
        if container.get("name") == names.CONTAINER:
            _check_server(container, f"containers[{index}]")


def _check_server(users: Mapping[str, Any], path: str) -> None:
    for key in ("image", "command", "args"):
        if key in users:
            what = "use spec.image" if key == "image" else "the operator says how the server is started"
            raise errors.InvalidSpec(f"{FIELD}.spec.{path}.{key}", what)
    taken = {entry.get("mountPath") for entry in users.get("volumeMounts") or []}
    _refuse(f"{path}.volumeMounts", "mountPath", users.get("volumeMounts"), set(filter(_is_our_path, taken)))
    reserved = {
        entry["name"]
        for entry in users.get("env") or []
        if entry.get("name") in names.RESERVED_ENV
        or str(entry.get("name")).startswith(names.ENV_LM_KEY_PREFIX)
    }
    _refuse(f"{path}.env", "name", users.get("env"), reserved)


def _is_our_path(path: object) -> bool:
    """Whether a mount would hide one of ours, or lie among our routing table, programs and code."""
    parts = PurePosixPath(str(path)).parts
    hides = any(ours.parts[: len(parts)] == parts for ours in (_OUR_FILES, _OUR_SCRATCH))
    return hides or parts[: len(_OUR_FILES.parts)] == _OUR_FILES.parts


def _refuse(where: str, key: str, entries: Any, reserved: set[str]) -> None:
    for index, entry in enumerate(entries or []):
        if entry.get(key) in reserved:
            path = f"{FIELD}.spec.{where}[{index}].{key}"
            raise errors.InvalidSpec(path, f"{entry[key]} is the operator's own")
