"""Objects as the API server returns them, for the views: a canary at 10 %, one rolled back, none at all."""

import copy
from typing import Any

from dspy_operator.cli.objects import parse_time

Object = dict[str, Any]
NAME, NAMESPACE, UID = "support-triage", "ml", "11111111-2222-3333-4444-555555555555"
STABLE = {"revision": "3f9a12c4d5", "workload": "1a2b3c4d", "version": "aaaaaaaaaaaa", "sha256": "a" * 64}
CANARY = {"revision": "81c0e7b2a9", "workload": "1a2b3c4d", "version": "bbbbbbbbbbbb", "sha256": "b" * 64}
ROLLOUT = "support-triage-81c0e7b2a9-1"


def at(time: str) -> float:
    """Epoch seconds of a time on the samples' day."""
    found = parse_time(f"2026-11-23T{time}Z")
    assert found is not None
    return found


NOW = at("10:12:30")


def conditions(**states: tuple[str, str, str]) -> list[Object]:
    return [
        {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 7}
        | {"lastTransitionTime": "2026-11-23T09:58:00Z"}
        for kind, (status, reason, message) in states.items()
    ]


def deployment(generation: int = 7) -> Object:
    """A canary at step 1."""
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyDeployment",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "uid": UID,
            "generation": generation,
            "creationTimestamp": "2026-11-20T06:00:00Z",
        },
        "spec": deployment_spec(),
        "status": deployment_status(),
    }


def deployment_spec() -> Object:
    return {
        "image": "registry.test/triage:1",
        "program": {
            "module": "support_triage:Triage",
            "artifact": {
                "sha256": "b" * 64,
                "configMap": {"name": "triage-bbbbbbbbbbbb", "key": "program.json"},
            },
        },
        "lm": {"primary": {"model": "openai/gpt-4o-mini"}},
    }


def deployment_status() -> Object:
    return {
        "observedGeneration": 7,
        "phase": "Progressing",
        "stable": STABLE | {"promotedAt": "2026-11-20T08:12:30Z"},
        "canary": CANARY
        | {"step": 1, "steps": 3, "weight": 10, "score": "-0.4%", "p95": "+3%", "rollout": ROLLOUT}
        | {
            "source": CANARY["revision"],
            "attempt": 1,
            "rolloutUID": "99999999-2222-3333-4444-555555555555",
        },
        "weight": 10,
        "message": "10 % for 12m; score -0.4 % on 214 of 100 samples; holding until 1h",
        "conditions": conditions(
            Ready=("Unknown", "RolloutInProgress", "A rollout is in progress"),
            Reconciling=("True", "RolloutInProgress", "A rollout is in progress"),
            Stalled=("False", "Healthy", ""),
            Available=("True", "PodsReady", "2 of 2 pods are ready"),
            Progressing=("True", "RolloutInProgress", "Step 1 of 3"),
            Paused=("False", "NotPaused", ""),
            AnalysisPassed=("Unknown", "CollectingEvidence", "Waiting for evidence"),
            TelemetryReady=("True", "Scraped", "Every pod is scraped"),
        ),
    }


def healthy() -> Object:
    """Nothing is going on."""
    found = deployment()
    status = found["status"]
    del status["canary"]
    status |= {"phase": "Healthy", "weight": 0, "message": "aaaaaaaaaaaa serves"}
    status["conditions"] = conditions(
        Ready=("True", "Healthy", "aaaaaaaaaaaa serves"),
        Reconciling=("False", "Healthy", ""),
        Stalled=("False", "Healthy", ""),
        Available=("True", "PodsReady", "2 of 2 pods are ready"),
        Paused=("False", "NotPaused", ""),
    )
    return found


def rolled_back() -> Object:
    """The canary was rolled back, and the spec still asks for it."""
    found = healthy()
    message = "bbbbbbbbbbbb was rolled back: score fell 19.8 %"
    found["status"] |= {"phase": "Degraded", "message": message}
    found["status"]["conditions"] = conditions(
        Ready=("False", "RolledBack", message),
        Reconciling=("False", "RolledBack", message),
        Stalled=("True", "RolledBack", message),
        Available=("True", "PodsReady", "2 of 2 pods are ready"),
    )
    return found


def strategy() -> Object:
    filled = {"minSamples": 50, "onMissing": "Hold", "dryRun": False}
    return {
        "steps": [
            {"weight": 10, "minDuration": "1h", "minSamples": 100, "deadline": "72h", "approval": "Auto"},
            {"weight": 50, "minDuration": "1h", "minSamples": 0, "deadline": "24h", "approval": "Manual"},
            {"weight": 100, "minDuration": "0s", "minSamples": 0, "deadline": "0s", "approval": "Auto"},
        ],
        "analysis": {
            "interval": "30s",
            "mode": "Evidence",
            "confidence": "0.95",
            "onDeadline": "Threshold",
            "metrics": [
                {"name": "score", "type": "Score", "maxDrop": "5%", "tolerance": "3%", "min": "0.70"}
                | filled,
                {"name": "latency", "type": "LatencyP95", "maxIncrease": "20%", "max": "10s"} | filled,
                {"name": "errors", "type": "ErrorRate", "maxIncreasePoints": "1", "tolerance": "0.6"}
                | filled,
            ],
        },
        "bake": "30m",
        "readyDeadline": "10m",
    }


def rollout() -> Object:
    """The open attempt of `deployment`."""
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyRollout",
        "metadata": {
            "name": ROLLOUT,
            "namespace": NAMESPACE,
            "creationTimestamp": "2026-11-23T09:58:00Z",
            "ownerReferences": [
                {
                    "apiVersion": "dspy-operator.io/v1alpha1",
                    "kind": "DSPyDeployment",
                    "name": NAME,
                    "uid": UID,
                }
            ],
        },
        "spec": {
            "deployment": NAME,
            "attempt": 1,
            "from": STABLE | {"module": "support_triage:Triage"},
            "to": CANARY | {"module": "support_triage:Triage"},
            "fast": False,
            "strategy": strategy(),
        },
        "status": rollout_status(),
    }


def rollout_status() -> Object:
    return {
        "phase": "Stepping",
        "step": 1,
        "weight": 10,
        "startedAt": "2026-11-23T09:58:00Z",
        "stepStartedAt": "2026-11-23T10:00:00Z",
        "weightEffectiveAt": "2026-11-23T10:00:10Z",
        "reason": "CollectingEvidence",
        "message": "Holding at 10 %: the gate opens after 1h",
        "summary": {"score": "-0.4%", "p95": "+3%"},
        "metrics": metrics(),
        "decision": {
            "action": "Hold",
            "reason": "CollectingEvidence",
            "message": "Holding at 10 %: the gate opens after 1h",
            "at": "2026-11-23T10:12:00Z",
        },
        "decisions": [
            {"at": "2026-11-23T09:58:00Z", "number": 1, "phase": "Preparing", "step": 0, "weight": 0}
            | {"reason": "RolloutStarted", "message": "aaaaaaaaaaaa to bbbbbbbbbbbb"},
            {"at": "2026-11-23T10:00:00Z", "number": 2, "phase": "Stepping", "step": 1, "weight": 10}
            | {"reason": "StepAdvanced", "message": "The canary is ready in 2 of 2 pods"},
        ],
    }


def metrics() -> list[Object]:
    return [
        {
            "name": "score",
            "type": "Score",
            "verdict": "Wait",
            "drop": "0.4%",
            "samples": {"canary": 214, "stable": 1930},
            "evidence": {"rollback": "0.07", "promote": "0.71"},
            "samplesNeeded": 400,
            "message": "score -0.4 % on 214 of 100 samples",
        },
        {
            "name": "latency",
            "type": "LatencyP95",
            "verdict": "Promote",
            "drop": "0.6 points",
            "samples": {"canary": 220, "stable": 1980},
            "evidence": {"rollback": "0.00", "promote": "1.20"},
            "message": "latency 5.1 % slower than 1.2 s (stable 4.5 %) on 220 of 50 requests",
        },
        {
            "name": "errors",
            "type": "ErrorRate",
            "verdict": "Unmeasured",
            "message": "errors: no samples of both revisions yet",
        },
    ]


def ended_rollout() -> Object:
    """The attempt of `rolled_back`."""
    found = rollout()
    message = "score fell 19.8 % on 180 samples; 5 % are allowed"
    found["status"] |= {
        "phase": "RolledBack",
        "weight": 0,
        "finishedAt": "2026-11-23T10:09:30Z",
        "reason": "RolledBack",
        "message": message,
        "summary": {"score": "-19.8%", "p95": "+1%"},
        "decision": {
            "action": "RollBack",
            "reason": "RolledBack",
            "message": message,
            "at": "2026-11-23T10:09:29Z",
        },
    }
    found["status"]["metrics"] = [
        {
            "name": "score",
            "verdict": "RollBack",
            "drop": "19.8%",
            "samples": {"canary": 180, "stable": 1600},
            "evidence": {"rollback": "1.04", "promote": "0.00"},
            "message": "score -19.8 % on 180 of 100 samples",
        }
    ]
    return copy.deepcopy(found)


def pods() -> list[Object]:
    return [
        pod("support-triage-1a2b3c4d-x7k2p"),
        pod("support-triage-1a2b3c4d-9qwzt", is_ready=False, restarts=1),
    ]


def pod(name: str, *, is_ready: bool = True, restarts: int = 0) -> Object:
    return {
        "metadata": {"name": name, "labels": {"dspy-operator.io/workload": "1a2b3c4d"}},
        "status": {
            "startTime": "2026-11-20T06:00:10Z",
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
            "containerStatuses": [{"name": "server", "restartCount": restarts}],
        },
    }
