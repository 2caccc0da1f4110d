"""Fields of the contract that this version does not carry out: refused at runtime by name, never ignored."""

from dspy_operator.api.choices import MetricType
from dspy_operator.api.metric import MetricSpec
from dspy_operator.api.spec import DeploymentSpec
from dspy_operator.api.strategy import BlueGreen, Canary, Strategy


def list_unsupported(spec: DeploymentSpec) -> list[str]:
    """The paths of all fields in use that are not carried out yet, such as `spec.traffic.gateway`."""
    strategy = spec.strategy or Strategy()
    chosen = {"canary": strategy.canary, "blueGreen": strategy.blue_green}
    return [path for name, one in chosen.items() if one for path in _list_in_analysis(name, one)]


def _list_in_analysis(name: str, chosen: Canary | BlueGreen) -> list[str]:
    metrics = (chosen.analysis.metrics if chosen.analysis else None) or []
    return [
        f"spec.strategy.{name}.analysis.metrics[{index}].dryRun"
        for index, metric in enumerate(metrics)
        if _is_cost_that_decides(metric)
    ]


def _is_cost_that_decides(metric: MetricSpec) -> bool:
    return metric.type is MetricType.COST_PER_REQUEST and not metric.dry_run
