"""The kinds that the operator reads or writes, and the literal paths of the API server for them.

Used by `client.py` and by everyone who calls it; nothing is discovered.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final
from urllib.parse import quote

from dspy_operator.api import names
from dspy_operator.errors import Permanent


@dataclass(frozen=True, eq=False)
class Resource:
    """One kind of object: where it lives in the API and what it is called. Each constant below equals only itself."""

    group: str
    version: str
    plural: str
    kind: str

    @cached_property
    def api_version(self) -> str:
        """What `apiVersion` says, such as `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The request path; without a namespace that of all namespaces.

        Raises:
            Permanent: a part would make it another path.
        """
        return _build_path(self, namespace, name, subresource)


@lru_cache(4096)
def _build_path(resource: Resource, namespace: str | None, name: str | None, subresource: str | None) -> str:
    """Every pass asks for the same ones."""
    parts = ["apis", resource.group, resource.version] if resource.group else ["api", resource.version]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    parts += [part for part in (name, subresource) if part is not None]
    return "/" + "/".join(_quote(part) for part in parts)


def _quote(part: str) -> str:
    if part in {"", ".", ".."}:
        raise Permanent(f"{part!r} is no name")
    return quote(part, safe="")


CONFIGMAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
CONTROLLERREVISIONS: Final = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
JOBS: Final = Resource("batch", "v1", "jobs", "Job")
PDBS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ENDPOINTSLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
HTTPROUTES: Final = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
PODMONITORS: Final = Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor")
DSPYDEPLOYMENTS: Final = Resource(names.GROUP, names.VERSION, names.DEPLOYMENT_PLURAL, names.DEPLOYMENT_KIND)
DSPYROLLOUTS: Final = Resource(names.GROUP, names.VERSION, names.ROLLOUT_PLURAL, names.ROLLOUT_KIND)
