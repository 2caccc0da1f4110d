"""Healthy, in progress or degraded: the same reading of the conditions as Argo CD's health script. Pure."""

from collections.abc import Mapping
from typing import Any

from dspy_operator.api.names import ConditionType
from dspy_operator.cli.objects import integer, mapping, mappings, text
from dspy_operator.cli.views.model import Health


def health_of(deployment: Mapping[str, Any]) -> Health:
    """Tell a DSPyDeployment's health; a status that lags behind the spec is in progress."""
    metadata, status = mapping(deployment, "metadata"), mapping(deployment, "status")
    generation = integer(metadata, "generation")
    if metadata.get("deletionTimestamp") or integer(status, "observedGeneration") != generation:
        return Health.IN_PROGRESS
    states = {
        text(condition, "type"): text(condition, "status")
        for condition in mappings(status, "conditions")
        if integer(condition, "observedGeneration") in {None, generation}
    }
    ready = states.get(ConditionType.READY)
    if states.get(ConditionType.STALLED) == "True":
        return Health.DEGRADED
    if ready == "False" and states.get(ConditionType.AVAILABLE) == "False":
        return Health.DEGRADED
    is_healthy = ready == "True" and states.get(ConditionType.PAUSED) != "True"
    return Health.HEALTHY if is_healthy else Health.IN_PROGRESS
