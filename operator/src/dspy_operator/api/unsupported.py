"""Fields of the contract that this version does not carry out: refused at runtime by name, never ignored."""

from dspy_operator.api.choices import MetricType
from dspy_operator.api.metric import MetricSpec
from dspy_operator.api.spec import DeploymentSpec, Isolation, Traffic
from dspy_operator.api.strategy import Canary, Strategy


def list_unsupported(spec: DeploymentSpec) -> list[str]:
    """The paths of all fields in use that are not carried out yet, such as `spec.traffic.gateway`."""
    return _list_in_traffic(spec.traffic or Traffic()) + _list_in_strategy(spec.strategy or Strategy())


def _list_in_traffic(traffic: Traffic) -> list[str]:
    found = []
    if traffic.isolation is Isolation.POD:
        found.append("spec.traffic.isolation")
    if traffic.gateway is not None:
        found.append("spec.traffic.gateway")
    if traffic.canary_replicas is not None:
        found.append("spec.traffic.canaryReplicas")
    return found


def _list_in_strategy(strategy: Strategy) -> list[str]:
    found = []
    if strategy.blue_green is not None:
        found.append("spec.strategy.blueGreen")
    analysis = (strategy.canary or Canary()).analysis
    for index, metric in enumerate((analysis.metrics if analysis else None) or []):
        if _is_cost_that_decides(metric):
            found.append(f"spec.strategy.canary.analysis.metrics[{index}].dryRun")
    return found


def _is_cost_that_decides(metric: MetricSpec) -> bool:
    return metric.type is MetricType.COST_PER_REQUEST and not metric.dry_run
