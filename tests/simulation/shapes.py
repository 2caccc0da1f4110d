"""What the simulated API server knows of each kind: generations, subresources, defaults, what never changes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    PDBS,
    PODS,
    SERVICES,
    Resource,
)

Object = dict[str, Any]

GENERATED: Final = frozenset({DEPLOYMENTS, PDBS, PODS, DSPYDEPLOYMENTS, DSPYROLLOUTS})
"""Kinds whose `metadata.generation` counts the changes of what is wanted."""

STATUS: Final = frozenset({DEPLOYMENTS, SERVICES, PDBS, PODS, DSPYDEPLOYMENTS, DSPYROLLOUTS})
"""Kinds whose status is written by itself."""

TRACKED: Final = frozenset({CONFIGMAPS, DEPLOYMENTS, SERVICES, PDBS})
"""Kinds that the operator applies: only there it matters whose a field is."""


def find_changed_part(before: Object, after: Object) -> bool:
    """Whether anything but metadata and status changed."""
    return any(
        before.get(key) != after.get(key)
        for key in before.keys() | after.keys()
        if key not in {"metadata", "status"}
    )


def IMMUTABLE(resource: Resource, before: Object, after: Object) -> Iterator[tuple[str, str]]:  # noqa: N802
    """Field and sentence of each change that is refused."""
    if resource == CONTROLLERREVISIONS and before.get("data") != after.get("data"):
        yield "data", "Invalid value: field is immutable"
    if resource == CONFIGMAPS and before.get("immutable"):
        if before.get("data") != after.get("data"):
            yield "data", "Forbidden: field is immutable when `immutable` is set"
        if before.get("binaryData") != after.get("binaryData"):
            yield "binaryData", "Forbidden: field is immutable when `immutable` is set"
        if not after.get("immutable"):
            yield "immutable", "Forbidden: field is immutable when `immutable` is set"
    if resource == DEPLOYMENTS and before["spec"].get("selector") != after["spec"].get("selector"):
        yield "spec.selector", "Invalid value: field is immutable"


def fill_defaults(resource: Resource, obj: Object) -> Object:
    """What the API server writes into an object that does not say it."""
    return {**obj, "spec": _fill(DEFAULTS[resource], obj.get("spec") or {})} if resource in DEFAULTS else obj


def _fill(defaults: Mapping[str, Any], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    filled = dict(value)
    for key, default in defaults.items():
        if key.endswith("[]"):
            name = key.removesuffix("[]")
            if name in filled:
                filled[name] = [_fill(default, item) for item in filled[name]]
        elif key.endswith("?"):
            name = key.removesuffix("?")
            if name in filled:
                filled[name] = _fill(default, filled[name])
        elif isinstance(default, Mapping):
            filled[key] = _fill(default, filled.get(key, {}))
        elif key not in filled:
            filled[key] = default
    return filled


DEFAULTS: Final[Mapping[Resource, Mapping[str, Any]]] = {}
