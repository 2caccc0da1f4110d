"""The regression gate of a story: the example's canary set, and a spec that asks for it."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

from tests.e2e.harness.artifacts import EXAMPLE

if TYPE_CHECKING:
    from tests.e2e.harness.api import Object

SET, KEY = "canary-set", "examples.jsonl"


def build_examples(namespace: str) -> Object:
    """The ConfigMap with the example's canary set."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": SET, "namespace": namespace},
        "data": {KEY: (EXAMPLE / "data/canary.jsonl").read_text()},
    }


def with_gate(spec: Object, min_score: str) -> Object:
    """A copy whose revisions answer the canary set before they get any traffic."""
    changed = deepcopy(spec)
    changed["spec"]["regression"] = {
        "dataset": {"configMap": {"name": SET, "key": KEY}},
        "metric": "support_triage:metric",
        "maxDrop": "5%",
        "minScore": min_score,
        "deadline": "5m",
    }
    return changed
