"""What the serving pods report of themselves, read from their own metrics port."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.e2e.harness.waiting import wait_for

if TYPE_CHECKING:
    from tests.e2e.harness.world import World

APPLIED = re.compile(r"^dspy_routes_applied_timestamp_seconds(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
CANARY_WEIGHT = re.compile(r'^dspy_route_weight\{[^}]*track="canary"[^}]*\} ([0-9.]+)$', re.MULTILINE)
SECONDS = 60


def wait_for_weight_zero(world: World, after: float) -> float:
    """When the last pod went to weight 0, by the pods' own clocks, once all did after that Unix time."""

    def look() -> float | None:
        times = []
        for pod in world.list_pods():
            text = world.api.read(f"pods/{world.namespace}/{pod['metadata']['name']}:9090", "/metrics")
            if any(float(weight) > 0 for weight in CANARY_WEIGHT.findall(text)):
                return None
            times += [float(at) for at in APPLIED.findall(text)]
        return max(times) if times and min(times) > after else None

    return wait_for("weight 0 in every pod", look, SECONDS, tell=world.tell, poll=0.05)
