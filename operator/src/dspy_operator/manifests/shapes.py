"""Whether a user's pod template has the shape of one, as far as the operator reads it.

The schema of the resource keeps it as it comes; the API server's own check would name the Deployment instead.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspy_operator import errors

_OBJECTS: Final = frozenset(
    [
        "metadata",
        "spec",
        "labels",
        "annotations",
        "securityContext",
        "capabilities",
        "seccompProfile",
        "appArmorProfile",
        "seLinuxOptions",
        "windowsOptions",
        "lifecycle",
        "preStop",
        "postStart",
        "httpGet",
        "tcpSocket",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "resources",
        "affinity",
        "nodeSelector",
    ]
)
_OBJECT_LISTS: Final = frozenset(
    [
        "containers",
        "initContainers",
        "env",
        "envFrom",
        "ports",
        "volumes",
        "volumeMounts",
        "volumeDevices",
        "imagePullSecrets",
        "hostAliases",
        "topologySpreadConstraints",
        "claims",
        "resourceClaims",
        "schedulingGates",
        "sysctls",
        "tolerations",
    ]
)
_TEXT_LISTS: Final = frozenset({"add", "drop", "args", "command"})
_TEXTS: Final = frozenset(
    [
        "name",
        "type",
        "user",
        "role",
        "mountPath",
        "devicePath",
        "ip",
        "topologyKey",
        "whenUnsatisfiable",
        "protocol",
        "image",
        "procMount",
        "host",
    ]
)
_SENTENCES: Final = (
    (_OBJECTS, "must be an object"),
    (_OBJECT_LISTS, "must be a list of objects"),
    (_TEXT_LISTS, "must be a list of strings"),
    (_TEXTS, "must be a string"),
)


def check_shapes(template: Mapping[str, Any], field: str) -> None:
    """Pass, or refuse the first part whose type is not that of a pod template.

    Raises:
        errors.InvalidSpec: naming the part below `field`.
    """
    for path, sentence in _list_wrong(template, field):
        raise errors.InvalidSpec(path, sentence)


def _list_wrong(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{path}.{key}"
            if inner is not None and not _fits(key, inner):
                yield here, next(sentence for keys, sentence in _SENTENCES if key in keys)
            yield from _list_wrong(inner, here)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _list_wrong(inner, f"{path}[{index}]")


def _fits(key: str, value: Any) -> bool:
    if key in _OBJECTS:
        return isinstance(value, Mapping)
    if key in _OBJECT_LISTS:
        return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)
    if key in _TEXT_LISTS:
        return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    return key not in _TEXTS or isinstance(value, str)
