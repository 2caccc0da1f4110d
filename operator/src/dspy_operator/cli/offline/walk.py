"""A recorded rollout walked through the judge: weights take effect at once, nobody pauses or promotes. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from dspy_operator.cli.offline.lines import Run
from dspy_operator.rollout.judging import (
    UNKNOWN_REFERENCE,
    Action,
    Look,
    MetricAnswer,
    MetricVerdict,
    Reason,
    RolloutConfig,
    State,
    Verdict,
    enter_bake,
    enter_step,
    judge,
    start,
)

EPOCH = 1e8
"""Times above it are Unix seconds, below it seconds since the first weight took effect."""

FULL = 100.0


class Outcome(StrEnum):
    """How a recorded rollout ends."""

    ROLLED_BACK = "RolledBack"
    PROMOTED = "Promoted"
    UNDECIDED = "Undecided"


@dataclass(frozen=True, slots=True)
class Row:
    """One look's verdict; `weight` in percent was in effect during the look.

    `metric` is the one that the answer hangs on, None where nothing is judged; `samples` are those of both arms
    (canary, stable) that its looks brought since the start.
    """

    verdict: Verdict
    weight: float
    metric: MetricVerdict | None
    samples: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """How one run ended, by which look."""

    outcome: Outcome
    row: Row


def walk(config: RolloutConfig, run: Run) -> Iterator[Row]:
    """One row a look, until the rollout is over."""
    state = _start(config, run)
    dry_runs = {metric.name for metric in config.metrics if metric.dry_run}
    samples: dict[str, tuple[float, float]] = {}
    for look in run.looks:
        weight = _get_weight(state)
        share = 0.0 if state.is_baking or not any(look.requests) else weight / FULL
        _add_samples(samples, look)
        state, verdict = judge(state, replace(look, share=share) if share else look)
        metric = find_telling(verdict, dry_runs)
        yield Row(verdict, weight, metric, samples.get(metric.name, (0.0, 0.0)) if metric else (0.0, 0.0))
        following = _find_following(state, verdict)
        if following is None:
            return
        state = following


def find_summary(rows: Iterator[Row]) -> Summary | None:
    """How a run ended; None for one without looks. A promotion stands unless the bake takes it back."""
    last = promoted = None
    for row in rows:
        last = row
        if row.verdict.action is Action.PROMOTE and promoted is None:
            promoted = row
    if last is None:
        return None
    if last.verdict.action is Action.ROLL_BACK:
        return Summary(Outcome.ROLLED_BACK, last)
    return Summary(Outcome.PROMOTED, promoted) if promoted else Summary(Outcome.UNDECIDED, last)


def find_telling(verdict: Verdict, dry_runs: set[str]) -> MetricVerdict | None:
    """The metric that the answer hangs on: the worst when rolling back, else the furthest from a promotion."""
    deciding = [m for m in verdict.metrics if m.name not in dry_runs and m.name not in verdict.skipped]
    if not deciding:
        return None
    if verdict.action is Action.ROLL_BACK:
        return max(deciding, key=lambda m: (m.verdict is MetricAnswer.ROLL_BACK, m.ln_e_rollback))
    measured = [m for m in deciding if m.reason is not Reason.EVIDENCE_MISSING]
    return min(measured or deciding, key=lambda m: m.ln_e_promote)


def _start(config: RolloutConfig, run: Run) -> State:
    first = run.looks[0].t
    began = 0.0 if 0 < first < EPOCH else first - config.interval
    known = {metric.name: run.references.get(metric.name, UNKNOWN_REFERENCE) for metric in config.metrics}
    state = start(config, known, began)
    return enter_bake(state, began) if not config.judged_steps and config.bake > 0 else state


def _find_following(state: State, verdict: Verdict) -> State | None:
    """The state that the next look meets; None: it is over."""
    match verdict.action:
        case Action.ROLL_BACK:
            return None
        case Action.ADVANCE:
            return enter_step(state, state.step + 1, verdict.t)
        case Action.PROMOTE:
            over = state.is_baking or state.config.bake <= 0
            return None if over else enter_bake(state, verdict.t)
        case Action.HOLD:
            return state


def _get_weight(state: State) -> float:
    judged = state.config.judged_steps
    return judged[state.step - 1].weight if 0 < state.step <= len(judged) else FULL


def _add_samples(samples: dict[str, tuple[float, float]], look: Look) -> None:
    for name, (canary, stable) in look.metrics.items():
        before = samples.get(name, (0.0, 0.0))
        samples[name] = (before[0] + canary.n, before[1] + stable.n)
