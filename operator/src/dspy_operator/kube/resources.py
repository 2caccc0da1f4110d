"""The kinds that the operator reads or writes, and the literal paths of the API server for them.

Used by `client.py` and by everyone who calls it; nothing is discovered.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from dspy_operator.api import names
from dspy_operator.errors import Permanent


@dataclass(frozen=True)
class Resource:
    """One kind of object: where it lives in the API and what it is called."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """What `apiVersion` says, such as `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The request path; without a namespace that of all namespaces.

        Raises:
            Permanent: a part would make it another path.
        """
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/" + "/".join(_quote(part) for part in parts)


@lru_cache(4096)
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
