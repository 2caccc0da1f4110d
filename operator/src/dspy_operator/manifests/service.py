"""How clients reach the serving pods, and how many of these a drained node may take away at once."""

from dspy_operator.api import names
from dspy_operator.manifests.owner import Manifest, Owner, build_child, build_selector


def build_service(owner: Owner, name: str, workload: str | None) -> Manifest:
    """A Service of the pods of one workload, or of all."""
    service = build_child(owner, ("v1", "Service"), name)
    service["spec"] = {
        "type": "ClusterIP",
        "selector": build_selector(owner, workload),
        "ports": [
            {
                "name": names.PORT_NAME_HTTP,
                "port": names.PORT_SERVICE,
                "targetPort": names.PORT_NAME_HTTP,
                "protocol": "TCP",
            }
        ],
    }
    return service


def build_budget(owner: Owner) -> Manifest:
    """The PodDisruptionBudget, for more than one replica: one pod at a time."""
    budget = build_child(owner, ("policy/v1", "PodDisruptionBudget"), names.budget_name(owner.name))
    budget["spec"] = {"maxUnavailable": 1, "selector": {"matchLabels": build_selector(owner)}}
    return budget
