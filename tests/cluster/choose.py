"""Which cluster it is: the user's, kind, or the one of this machine. The first that applies is taken.

DSPY_CLUSTER (`existing`, `kind`, `embedded`) says it outright.
"""

import os
import platform

from tests.cluster.docker_images import has_docker
from tests.cluster.embedded import get_embedded
from tests.cluster.existing import get_existing
from tests.cluster.kind import get_kind
from tests.cluster.processes import ClusterError
from tests.cluster.provider import Cluster

NONE_APPLIES = (
    "No cluster can run here. Three ways out: start Docker; be root on Linux; or name a cluster of yours with "
    "`make … KUBECONFIG=FILE IMAGE_REGISTRY=HOST/PATH`."
)


def choose_name(*, wished: str, has_docker: bool, is_linux: bool, is_root: bool) -> str:
    """The provider's name; ClusterError with the ways out when none applies.

    Args:
        wished: DSPY_CLUSTER. KUBECONFIG alone chooses nothing, as it may be production's: make sets `existing`
            only where it was given on its command line.
        has_docker: a Docker daemon answers.
        is_linux: the machine runs Linux.
        is_root: we are root.
    """
    if wished:
        if wished not in {"existing", "kind", "embedded"}:
            raise ClusterError(f"DSPY_CLUSTER is {wished!r}, and must be existing, kind or embedded.")
        return wished
    if has_docker:
        return "kind"
    if is_linux and is_root:
        return "embedded"
    raise ClusterError(NONE_APPLIES)


def choose() -> Cluster:
    """The cluster of this checkout, running or not.

    Raises:
        ClusterError: none can run here, with the three ways out.
    """
    wished = os.environ.get("DSPY_CLUSTER", "")
    name = choose_name(
        wished=wished,
        has_docker=not wished and has_docker(),
        is_linux=platform.system() == "Linux",
        is_root=os.geteuid() == 0,
    )
    match name:
        case "existing":
            return get_existing()
        case "kind":
            return get_kind()
        case _:
            return get_embedded()
