"""What the simulated API server knows of each kind: generations, subresources, defaults, what never changes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    JOBS,
    LEASES,
    PDBS,
    PODS,
    SERVICES,
    Resource,
)

Object = dict[str, Any]

GENERATED: Final = frozenset({DEPLOYMENTS, JOBS, PDBS, PODS, DSPYDEPLOYMENTS, DSPYROLLOUTS, HTTPROUTES})
"""Kinds whose `metadata.generation` counts the changes of what is wanted."""

STATUS: Final = frozenset(
    {DEPLOYMENTS, JOBS, SERVICES, PDBS, PODS, DSPYDEPLOYMENTS, DSPYROLLOUTS, HTTPROUTES}
)
"""Kinds whose status is written by itself."""

SERVED: Final = (
    CONFIGMAPS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    SERVICES,
    PDBS,
    PODS,
    LEASES,
)
"""All kinds, in the order in which `fidelity/` records them."""

KINDS: Final = frozenset({*SERVED, JOBS, ENDPOINTSLICES, HTTPROUTES})
"""All that are known. The last three are not recorded: they are treated like any other kind, or only read."""

CUSTOM: Final = frozenset({DSPYDEPLOYMENTS, DSPYROLLOUTS, HTTPROUTES})

TRACKED: Final = frozenset({CONFIGMAPS, DEPLOYMENTS, SERVICES, PDBS, HTTPROUTES})
"""Kinds that the operator applies: only there it matters whose a field is."""

ANSWERS_WITH_THE_OBJECT: Final = frozenset({SERVICES})
"""Kinds of which a deletion answers with what was deleted."""


def is_wanted_otherwise(resource: Resource, before: Object, after: Object) -> bool:
    """Whether the generation counts this change: not of metadata and status, but for a Deployment's annotations."""
    if resource is DEPLOYMENTS and before["metadata"].get("annotations") != after["metadata"].get(
        "annotations"
    ):
        return True
    return any(
        before.get(key) != after.get(key)
        for key in before.keys() | after.keys()
        if key not in {"metadata", "status"}
    )


def list_wrong(resource: Resource, before: Object, after: Object) -> Iterator[str]:
    """The fields of a change that is refused."""
    if resource is CONTROLLERREVISIONS and before.get("data") != after.get("data"):
        yield "data"
    if resource is DSPYROLLOUTS and before.get("spec") != after.get("spec"):
        yield "spec"
    if resource is CONFIGMAPS and before.get("immutable"):
        fixed = ("immutable", "data", "binaryData")
        yield from (field for field in fixed if before.get(field) != after.get(field))
    if resource is DEPLOYMENTS and before["spec"].get("selector") != after["spec"].get("selector"):
        yield "spec.selector"
        wanted = after["spec"]["selector"]["matchLabels"].items()
        if not wanted <= after["spec"]["template"]["metadata"]["labels"].items():
            yield "spec.template.metadata.labels"


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


DEFAULTS: Final[Mapping[Resource, Mapping[str, Any]]] = {
    HTTPROUTES: {
        "parentRefs[]": {"group": "gateway.networking.k8s.io", "kind": "Gateway"},
        "rules[]": {
            "matches[]": {"path": {"type": "PathPrefix", "value": "/"}},
            "backendRefs[]": {"group": "", "kind": "Service", "weight": 1},
        },
    }
}
"""Of the kinds that are recorded the API server fills in nothing that the operator looks at."""
