"""Live objects as the API server gives them, and a snapshot of them."""

from typing import Any

from dspy_operator.api.names import (
    ANNOTATION_ROUTES_GENERATION,
    LABEL_WORKLOAD,
)
from dspy_operator.api.spec import parse_deployment
from dspy_operator.manifests.owner import Owner
from dspy_operator.reconcile.memory import Given
from dspy_operator.reconcile.snapshot import Snapshot

OWNER = Owner("ml", "triage", "uid-triage")
KEY = ("ml", "triage")
NOW = 1_800_000_000.0
Object = dict[str, Any]


def revision_of(letter: str) -> str:
    """`a` is revision `aaaaaaaaaa`."""
    return letter * 10


def build_deployment(**status: Any) -> Object:
    return {
        "metadata": {
            "name": "triage",
            "namespace": "ml",
            "uid": OWNER.uid,
            "generation": 3,
            "resourceVersion": "1",
        },
        "spec": {
            "program": {
                "module": "triage:Triage",
                "artifact": {"sha256": "a" * 64, "configMap": {"name": "program", "key": "program.json"}},
            },
            "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
        },
        "status": status,
    }


def build_ref(letter: str) -> Object:
    return {
        "revision": revision_of(letter),
        "workload": "0a1b2c3d",
        "module": "triage:Triage",
        "sha256": letter * 64,
        "version": letter * 12,
    }


def build_rollout(origin: str, to: str, attempt: int = 1, at: int = 0, **status: Any) -> Object:
    """An attempt created at second `at`."""
    strategy = {
        "steps": [
            {"weight": 10, "minDuration": "1m", "minSamples": 1, "deadline": "1h", "approval": "Auto"},
            {"weight": 100, "minDuration": "0s", "minSamples": 0, "deadline": "0s", "approval": "Auto"},
        ],
        "analysis": {
            "interval": "10s",
            "mode": "Evidence",
            "confidence": "0.95",
            "onDeadline": "Threshold",
            "metrics": [],
        },
        "bake": "1m",
        "readyDeadline": "10m",
    }
    return {
        "metadata": {
            "name": f"triage-{revision_of(to)}-{attempt}",
            "namespace": "ml",
            "uid": f"uid-{to}-{attempt}",
            "creationTimestamp": f"2026-11-23T10:00:{at:02d}Z",
            "resourceVersion": "1",
        },
        "spec": {
            "deployment": "triage",
            "attempt": attempt,
            "from": build_ref(origin),
            "to": build_ref(to),
            "fast": False,
            "strategy": strategy,
        },
        "status": status,
    }


def build_pod(name: str, *, ready: bool = True, told: str = "", workload: str = "w1") -> Object:
    annotations = {ANNOTATION_ROUTES_GENERATION: told} if told else {}
    return {
        "metadata": {"name": name, "labels": {LABEL_WORKLOAD: workload}, "annotations": annotations},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def build_snapshot(**parts: Any) -> Snapshot:
    deployment = parts.pop("deployment", None) or build_deployment()
    return Snapshot(OWNER, deployment, parse_deployment(deployment), **parts)


def build_given(reading: Any = None, now: float = NOW) -> Given:
    return Given(
        now=now,
        epoch=1,
        serving_image="server:1",
        checkpoint_interval=60,
        stale_after=30,
        reading=reading,
    )
