"""Watches as triggers: levels, not edges. No event's body is believed, nothing is written by kopf.

kopf's own diffs, annotations and finalizers are not used: `on.event` only (docs/architecture).
"""

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import kopf

from dspy_operator.api import names
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    JOBS,
    PDBS,
    PODS,
    SERVICES,
    Resource,
)

CHILDREN: Final = (
    *(DSPYROLLOUTS, DEPLOYMENTS, CONFIGMAPS, CONTROLLERREVISIONS, SERVICES, ENDPOINTSLICES, PDBS, PODS, JOBS),
    HTTPROUTES,
)
"""The last only where somebody has installed the Gateway API before the operator started: else they are polled."""
Note = Callable[[tuple[str, str], tuple[str, str] | None], None]


class Backoffs:
    """Delays (seconds) between tries of a watch: for ever, growing to 10, never in step with other clients."""

    LONGEST: Final = 10.0

    def __iter__(self) -> Iterator[float]:
        delay = 0.5
        while True:
            yield delay * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
            delay = min(self.LONGEST, 2 * delay)


def build_registry(note: Note) -> kopf.OperatorRegistry:
    """All handlers: the deployments themselves, and their children by the label that names the owner."""
    registry = kopf.OperatorRegistry()

    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    def on_deployment(namespace: str | None, name: str | None, **rest: Any) -> None:
        note((namespace or "", name or ""), _find_version(**rest))

    def on_child(namespace: str | None, labels: kopf.Labels, **rest: Any) -> None:
        owner = labels.get(names.LABEL_INSTANCE)
        if owner:
            note((namespace or "", owner), _find_version(**rest))

    kopf.on.login(registry=registry)(log_in)
    _watch(registry, DSPYDEPLOYMENTS, on_deployment)
    for child in CHILDREN:
        _watch(registry, child, on_child)
    return registry


def _find_version(event: Mapping[str, Any], meta: Mapping[str, Any], **_: Any) -> tuple[str, str] | None:
    """(uid, resourceVersion) of what the event tells of; None for what is gone."""
    if event.get("type") == "DELETED":
        return None
    return meta.get("uid", ""), meta.get("resourceVersion", "")


def _watch(registry: kopf.OperatorRegistry, resource: Resource, handler: Callable[..., None]) -> None:
    kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(handler)


def build_settings() -> kopf.OperatorSettings:
    """Kopf as measured in docs/architecture: no events, no peering, no discovery, unbounded retries."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = 70
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.process.ultimate_exiting_timeout = 20
    for child in CHILDREN:
        settings.watching.label_selectors[child.plural] = names.MANAGED_SELECTOR
    return settings
