"""DSPyDeployments as stories need them: the example's own manifest, with a strategy that is over in a minute.

Plain dicts; a story changes a copy.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import yaml
from tests.e2e.harness.artifacts import EXAMPLE, KEY

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.artifacts import Artifact

NAME = "support-triage"
MANIFEST = EXAMPLE / "manifests/deployment.yaml"
SCORE: Object = {"name": "score", "type": "Score", "maxDrop": "5%", "minSamples": 50}
LATENCY: Object = {"name": "latency", "type": "LatencyP95", "maxIncrease": "50%", "minSamples": 50}
ERRORS: Object = {"name": "errors", "type": "ErrorRate", "maxIncreasePoints": "5", "minSamples": 50}
JUDGED = (
    ERRORS,
)  # where the judge is not the point: the literal rule takes noise of scores and latencies for worse


def build_step(weight: int, **more: Any) -> Object:
    """A step that is over as soon as the evidence is there."""
    return {"weight": weight, "minDuration": "5s", "minSamples": 50, "deadline": "5m"} | more


PREVIEW = 8  # seconds
STEPS: tuple[Object, ...] = (build_step(10), build_step(50), {"weight": 100})


def build_strategy(
    *,
    steps: tuple[Object, ...] = STEPS,
    metrics: tuple[Object, ...] = (SCORE, LATENCY, ERRORS),
    bake: str = "4s",
    **analysis: str,
) -> Object:
    """A strategy with looks every 2 s; `analysis` adds `mode`, `onDeadline` and the like."""
    return {
        "canary": {
            "steps": [dict(step) for step in steps],
            "analysis": {"interval": "2s", "metrics": [dict(m) for m in metrics]} | analysis,
            "bake": bake,
            "readyDeadline": "2m",
        }
    }


def build_blue_green(bake: str = "4s", **more: object) -> Object:
    """A preview of a few seconds, and a bake in which the literal rule decides, on errors: no good one may fail."""
    analysis = {"interval": "2s", "mode": "Threshold", "metrics": list(JUDGED)}
    shared = {"previewDuration": f"{PREVIEW}s", "analysis": analysis, "bake": bake, "readyDeadline": "1m"}
    return {"blueGreen": shared | more}


def build_minimal(namespace: str, artifact: Artifact) -> Object:
    """The example's manifest as it stands, its blanks filled in."""
    obj: Object = yaml.safe_load(MANIFEST.read_text())
    obj["metadata"] = {"name": NAME, "namespace": namespace}
    return with_artifact(obj, artifact)


def with_artifact(obj: Object, artifact: Artifact) -> Object:
    """A copy that names another artifact."""
    changed = deepcopy(obj)
    changed["spec"]["program"]["artifact"] = {
        "configMap": {"name": artifact.config_map, "key": KEY},
        "sha256": artifact.sha256,
    }
    return changed


def with_environment(obj: Object, **variables: str) -> Object:
    """A copy whose pods have these variables: another workload."""
    changed = deepcopy(obj)
    container = changed["spec"]["serving"]["podTemplate"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in variables.items()]
    return changed


def with_strategy(obj: Object, strategy: Object) -> Object:
    """A copy with another strategy."""
    changed = deepcopy(obj)
    changed["spec"]["strategy"] = deepcopy(strategy)
    return changed


def build_story(namespace: str, artifact: Artifact, strategy: Object | None = None) -> Object:
    """The example with users in a header, a short strategy and small pods."""
    obj = with_strategy(build_minimal(namespace, artifact), strategy or build_strategy())
    obj["spec"]["lm"]["timeout"] = "10s"
    obj["spec"]["traffic"] = {"userHeader": "X-User-Id"}
    container = {"name": "server", "resources": {"requests": {"cpu": "50m", "memory": "160Mi"}}}
    obj["spec"]["serving"] = {"podTemplate": {"spec": {"containers": [container]}}}
    return obj
