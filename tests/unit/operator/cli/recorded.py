"""Recorded looks for the offline commands: those of the golden vectors, and the manifest that they are judged by."""

from typing import Any

from dspy_operator.cli.offline.lines import Line as ReadLine
from dspy_operator.cli.offline.lines import build_runs
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import (
    Action,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
)

Line = dict[str, Any]

REFERENCE: Line = {"run": "r0", "metric": "score", "reference": {"n": 1000, "sum": 800, "sumsq": 680}}
"""Mean 0.8, variance 0.04."""

SCORE: Line = {"name": "score", "type": "Score", "maxDrop": "5%", "minSamples": 50}


def build_look(t: float, canary: tuple[float, float, float], stable: tuple[float, float, float]) -> Line:
    """One line: n, sum and sum of squares of both arms."""
    arms = [dict(zip(("n", "sum", "sumsq"), arm, strict=True)) for arm in (canary, stable)]
    return {"run": "r0", "t": t, "metric": "score", "canary": arms[0], "stable": arms[1]}


GOLDEN_ROLLBACK = [
    build_look(30, (20, 14.5, 11.75), (180, 144, 122.5)),
    build_look(60, (22, 13, 10), (176, 141.5, 121)),
    build_look(90, (0, 0, 0), (95, 76, 64.5)),
    build_look(120, (21, 14.5, 11.75), (88, 70, 59.5)),
    build_look(150, (20, 10.5, 7.75), (181, 144.5, 123)),
]

GOLDEN_PROMOTE = [
    build_look(30, (25, 20.5, 17.75), (225, 180, 151.5)),
    build_look(60, (30, 24, 20.5), (270, 216.5, 183)),
    build_look(120, (60, 48.5, 41.25), (60, 47.5, 40)),
    build_look(150, (64, 51, 43), (58, 46.5, 39.5)),
    build_look(180, (70, 57, 48.5), (66, 53, 45)),
]

STEPS: list[Line] = [
    {"weight": 10, "minDuration": "60s"},
    {"weight": 50, "minDuration": "60s"},
    {"weight": 100},
]


def build_manifest(
    metrics: list[Line] | None = [SCORE],  # noqa: B006  never changed
    steps: list[Line] = STEPS,
    bake: str = "0s",
) -> Line:
    """A DSPyDeployment with nothing but what judges."""
    analysis: Line = {"interval": "30s"} | ({"metrics": metrics} if metrics is not None else {})
    return {
        "apiVersion": "dspy-operator.io/v1alpha1",
        "kind": "DSPyDeployment",
        "metadata": {"name": "support-triage"},
        "spec": {"strategy": {"canary": {"steps": steps, "analysis": analysis, "bake": bake}}},
    }


def build_attempt() -> Line:
    """The part of an attempt's status that a replay reads, after the golden vectors' rollback."""
    metric = MetricConfig("score", MetricType.SCORE, margin=0.05)
    config = RolloutConfig((StepConfig(10), StepConfig(50), StepConfig(100)), (metric,))
    lines = [ReadLine(number, line) for number, line in enumerate(GOLDEN_ROLLBACK, 1)]
    analysis, decisions = Analysis.start(config, {"score": Reference(0.8, 0.04)}, 0.0), []
    for look in build_runs(lines, {"score": MetricType.SCORE})[0].looks:
        analysis, verdict = analysis.judge(look)
        if verdict.action is Action.ROLL_BACK:
            told = {"reason": verdict.reason.value, "message": verdict.message, "weight": 0}
            decisions.append(
                {"at": "2026-11-23T10:12:00Z", "number": 3, "phase": "RollingBack", "step": 1} | told
            )
    return {"looks": analysis.to_text(), "decisions": decisions, "metrics": None}
