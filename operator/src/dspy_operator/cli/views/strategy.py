"""The rules of a rollout in words: what opens a step's gate, what a metric may do. Pure."""

from collections.abc import Mapping
from typing import Any

from dspy_operator.cli.objects import integer, mapping, mappings, text
from dspy_operator.cli.views.model import Step, StepState
from dspy_operator.cli.views.units import percent

ALL_DONE = frozenset({"Baking", "Promoted"})
FAILED = frozenset({"RollingBack", "RolledBack", "Aborted", "Superseded"})
NOTHING = frozenset({"", "0", "0s"})
"""How a frozen strategy writes that a step asks for no time and no samples."""


def steps_of(strategy: Mapping[str, Any], phase: str, current: int) -> tuple[Step, ...]:
    """List the steps of a strategy and where an attempt in `phase` at step `current` (from 1, a preview 0) is."""
    specs = mappings(strategy, "steps")
    return _preview_of(mapping(strategy, "preview"), phase, current) + tuple(
        Step(number, integer(spec, "weight") or 0, _state(number, len(specs), phase, current), _gate(spec))
        for number, spec in enumerate(specs, start=1)
    )


def _preview_of(preview: Mapping[str, Any], phase: str, current: int) -> tuple[Step, ...]:
    """List the preview of a blue-green strategy as a step before the first."""
    if not preview:
        return ()
    gate = f"at least {text(preview, 'duration')}"
    gate += "" if preview.get("autoPromote", True) else ", then approval"
    begins = phase in {"Preparing", "Regression"}
    return (Step(0, 0, StepState.AHEAD if begins else _state(0, 1, phase, current), gate),)


def rule_of(metric: Mapping[str, Any]) -> str:
    """Say what a metric's spec allows, such as `may drop 5 % (tolerance 3 %), floor 0.70`."""
    parts = []
    if drop := text(metric, "maxDrop"):
        parts.append(f"may drop {percent(drop)}")
    if increase := text(metric, "maxIncrease"):
        parts.append(f"may rise {percent(increase)}")
    if points := text(metric, "maxIncreasePoints"):
        parts.append(f"may rise {points} point{'' if points == '1' else 's'}")
    if tolerance := text(metric, "tolerance"):
        parts.append(f"tolerance {percent(tolerance)}")
    if floor := text(metric, "min"):
        parts.append(f"never below {floor}")
    if ceiling := text(metric, "max"):
        parts.append(f"never above {percent(ceiling)}")
    if samples := text(metric, "minSamples"):
        parts.append(f"from {samples} samples")
    if metric.get("dryRun"):
        parts.append("reported only")
    return ", ".join(parts)


def _state(number: int, last: int, phase: str, current: int) -> StepState:
    if phase in ALL_DONE or number < current:
        return StepState.DONE
    if phase == "Promoting":
        return StepState.CURRENT if number == last else StepState.DONE
    if number > current:
        return StepState.AHEAD
    return StepState.FAILED if phase in FAILED else StepState.CURRENT


def _gate(spec: Mapping[str, Any]) -> str:
    parts = []
    if (duration := text(spec, "minDuration")) not in NOTHING:
        parts.append(f"at least {duration}")
    if (samples := text(spec, "minSamples")) not in NOTHING:
        parts.append(f"{samples} samples")
    if (deadline := text(spec, "deadline")) not in NOTHING:
        parts.append(f"decided within {deadline}")
    if text(spec, "approval") == "Manual":
        parts.append("then approval")
    return ", ".join(parts)


def metric_specs(strategy: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the metrics of a strategy by name."""
    return {text(m, "name"): m for m in mappings(mapping(strategy, "analysis"), "metrics")}
