"""What was measured, as `summary.json`: from the rollouts' records, the clients' counts, Prometheus and the pods.

Every number is read from what ran; what could not be measured is null.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from tests.e2e.harness.specs import NAME

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object
    from tests.e2e.harness.views import Rollout
    from tests.e2e.harness.world import World

SCORE = (
    'sum by (revision) (increase(dspy_score_sum_total{{{at},source="metric"}}[{seconds}s])) / '
    'sum by (revision) (increase(dspy_score_samples_total{{{at},source="metric"}}[{seconds}s]))'
)
P95 = (
    "histogram_quantile(0.95, sum by (revision, le) "
    "(increase(dspy_request_duration_seconds_bucket{{{at}}}[{seconds}s])))"
)


def build_entry(world: World, rollout: Rollout, window: Object, verdict_to_zero: float | None) -> Object:
    """One rollout; `window` is the clients' report over it, `verdict_to_zero` seconds."""
    return {
        "from": rollout.source,
        "to": rollout.target,
        "outcome": rollout.phase,
        "reason": find_reason(rollout),
        "steps": [build_step(world, rollout, step) for step in list_steps(rollout)],
        "score": measure(world, rollout, SCORE),
        "p95_seconds": measure(world, rollout, P95),
        "verdict_to_zero_seconds": verdict_to_zero and round(verdict_to_zero, 3),
        "requests_sent": window["sent"],
        "requests_failed": window["failed"],
    }


def find_reason(rollout: Rollout) -> str:
    """The sentence with which the end was decided."""
    decided = rollout.find_entry("RollingBack") or rollout.find_entry("Promoting")
    return decided.message if decided else rollout.message


def list_steps(rollout: Rollout) -> list[int]:
    """The judged steps that the rollout reached, from 1."""
    return sorted({entry.step for entry in rollout.entries if entry.phase == "Stepping"})


def build_step(world: World, rollout: Rollout, step: int) -> Object:
    """One step: samples as they were judged, requests as the clients saw them answered."""
    entered = rollout.get_entry("Stepping", step)
    left = next(
        (
            entry
            for entry in rollout.entries
            if entry.number > entered.number
            and entry.at > entered.at
            and (entry.phase, entry.step) != ("Stepping", step)
        ),
        None,
    )
    effective = world.watch.find_effective_at(rollout.name, step)
    judged = world.watch.find_judged(rollout.name, step)
    score = judged.metrics.get("score") if judged else None
    # The weight is confirmed up to a scrape after it began: the second in which that was known counts whole.
    split = world.traffic.get_split(math.floor(effective), left.at) if effective and left else None
    return {
        "weight": entered.weight,
        "effective_at": effective
        and datetime.fromtimestamp(effective, UTC).isoformat(timespec="milliseconds"),
        "canary_samples": score and score.canary,
        "stable_samples": score and score.stable,
        "canary_requests": split and split.counts[rollout.revision],
        "requests": split and split.total,
    }


def measure(world: World, rollout: Rollout, template: str) -> Object:
    """A number of both revisions over the rollout's whole life, from Prometheus."""
    ended = rollout.finished_at or rollout.created_at
    seconds = math.ceil(ended - rollout.created_at)
    at = f'namespace="{world.namespace}",program="{NAME}"'
    query = template.format(at=at, seconds=seconds)
    found = world.installation.query(f"{quote(query)}&time={ended:.3f}")
    values = {sample["metric"].get("revision", ""): float(sample["value"][1]) for sample in found}
    return {
        "canary": get_rounded(values.get(rollout.revision)),
        "stable": get_rounded(values.get(rollout.from_revision)),
    }


def get_rounded(value: float | None) -> float | None:
    """Four decimals; None for what is no number."""
    return round(value, 4) if value is not None and math.isfinite(value) else None
