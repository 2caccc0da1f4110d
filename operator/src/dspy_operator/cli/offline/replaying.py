"""An attempt's record replayed by the same core, and held against what its status says was decided. Pure.

`explain --replay` shows it; the end-to-end stories replay every attempt that they leave behind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspy_operator.cli.objects import integer, mapping, mappings, parse_time, text
from dspy_operator.rollout.judging import Action, Reason, State, Verdict, judge_blind
from dspy_operator.rollout.judging.record import Record, from_text, replay

Object = Mapping[str, Any]

ROLLING_BACK = "RollingBack"
DECIDED = frozenset({"Stepping", "Promoting", ROLLING_BACK})
"""Phases that a decision of the judge leads to; the end that follows repeats its reason."""

MOVES = frozenset(
    {
        Reason.EVIDENCE_OF_REGRESSION,
        Reason.THRESHOLD_VIOLATED,
        Reason.DEADLINE_THRESHOLD_VIOLATED,
        Reason.DEADLINE_ROLLBACK,
        Reason.EVIDENCE_OF_QUALITY,
        Reason.THRESHOLD_PASSED,
        Reason.DEADLINE_THRESHOLD_PASSED,
        Reason.DEADLINE_PROMOTE,
        Reason.GATE_OPEN,
    }
)
"""Reasons by which the judge alone moves a rollout; all others are a person's, the pods' or the spec's."""

BLIND = frozenset({Reason.DEADLINE_ROLLBACK, Reason.DEADLINE_PROMOTE})
"""Deadlines that act without a look: nothing of them is in the record but the time."""

SKEW = 3600.0
"""Seconds that the API server's clock, which status has, may be behind Prometheus', which the deadline has."""

HELD = frozenset({Reason.DEADLINE_ROLLBACK, Reason.DEADLINE_THRESHOLD_VIOLATED})
"""What is not acted upon while a person holds the rollout."""

CUT, LEAST = 300, 20
"""Characters that status keeps of a sentence, and those that tell one from another."""


@dataclass(frozen=True)
class Decision:
    """One change that the judge made, as status has it, and what the replay says: `look` from 1, None: it has none.

    `difference` is empty where both agree.
    """

    number: int
    at: float | None
    reason: str
    look: int | None
    difference: str = ""


@dataclass(frozen=True)
class Replay:
    """What the record gives again.

    `verdicts`: one a look; `decisions`: those of the judge that the record covers, `older`: how many it no longer
    does; `difference`: the first thing on which record and status disagree, empty if none.
    """

    verdicts: tuple[Verdict, ...]
    decisions: tuple[Decision, ...] = ()
    older: int = 0
    difference: str = ""


def build_replay(rollout: Object) -> Replay:
    """Judge every recorded look of a DSPyRollout again, and compare.

    Raises:
        ValueError: there is no record, or it is of another version.
    """
    status = mapping(rollout, "status")
    written = text(status, "looks")
    if not written:
        raise ValueError("it has no record of looks: nothing was judged")
    record = from_text(written)
    states, verdicts = _list_judged(record)
    entries = [entry for entry in mappings(status, "decisions") if _is_by_judge(entry)]
    covered = [entry for entry in entries if not _is_older(record, verdicts, entry)]
    decisions = tuple(_compare(entry, verdicts, states) for entry in covered)
    differences = [f"decision {one.number}: {one.difference}" for one in decisions if one.difference]
    differences += _list_unheeded(verdicts, mappings(status, "decisions"))
    differences += _list_numbers(verdicts, states, status)
    return Replay(verdicts, decisions, len(entries) - len(covered), next(iter(differences), ""))


def _is_by_judge(entry: Object) -> bool:
    return text(entry, "phase") in DECIDED and text(entry, "reason") in MOVES


def _list_judged(record: Record) -> tuple[list[State], tuple[Verdict, ...]]:
    states, verdicts = [record.checkpoint], []
    for _, state, verdict in replay(record):
        states.append(state)
        if verdict is not None:
            verdicts.append(verdict)
    return states, tuple(verdicts)


def _is_older(record: Record, verdicts: Sequence[Verdict], entry: Object) -> bool:
    """Whether the look that made this change was folded into the checkpoint."""
    step = _get_step(entry)
    was_judged = any(metric.step.looks for metric in record.checkpoint.metrics)
    return record.checkpoint.step > step or (
        record.checkpoint.step == step and was_judged and not any(v.step == step for v in verdicts)
    )


def _get_step(entry: Object) -> int:
    """The step at which the look was taken: a change forward names the step after it."""
    step = integer(entry, "step") or 0
    return step if text(entry, "phase") == ROLLING_BACK else step - 1


def _compare(entry: Object, verdicts: Sequence[Verdict], states: Sequence[State]) -> Decision:
    """The newest look that says the same, or how the newest of that step differs."""
    reason, step, message = Reason(text(entry, "reason")), _get_step(entry), text(entry, "message")
    of_step = [(look, v) for look, v in enumerate(verdicts, 1) if v.step in _list_steps(entry, step)]
    found = next((look for look, v in reversed(of_step) if _is_same(v, reason, message)), None)
    number, at = integer(entry, "number") or 0, parse_time(text(entry, "at"))
    if found is not None:
        return Decision(number, at, reason.value, found)
    if reason in BLIND and at is not None:
        state = next((state for state in reversed(states) if state.step == step), states[0])
        if _is_same(judge_blind(state, at + SKEW), reason, message):
            return Decision(number, at, reason.value, None)
    difference = f"status says {reason} ({message}), "
    difference += (
        f"the replay {_describe(*of_step[-1])}" if of_step else f"the record has no look of step {step}"
    )
    return Decision(number, at, reason.value, None, difference)


def _list_steps(entry: Object, step: int) -> tuple[int, ...]:
    """A rollback while 100 % is being set was found by a look of the step before."""
    return (step - 1, step) if text(entry, "phase") == ROLLING_BACK else (step,)


def _is_same(verdict: Verdict, reason: Reason, message: str) -> bool:
    return (
        verdict.action is not Action.HOLD
        and verdict.reason is reason
        and _has_numbers(message, verdict.message)
    )


def _has_numbers(message: str, said: str) -> bool:
    """Whether a recorded sentence gives the numbers of the verdict's, in their order; one that was cut, its words."""
    recorded, wanted = _list_figures(message), _list_figures(said)
    starts = range(len(recorded) - len(wanted) + 1)
    if any(recorded[start : start + len(wanted)] == wanted for start in starts):
        return True
    cuts = range(len(said), LEAST, -1) if len(message) >= CUT else range(0)
    return any(message.endswith(said[:length]) for length in cuts)


def _list_figures(message: str) -> list[str]:
    return re.findall(r"[+-]?\d+(?:\.\d+)?", message)


def _list_unheeded(verdicts: Sequence[Verdict], entries: Sequence[Object]) -> list[str]:
    """A rollback that was judged and that nothing followed."""
    ended = any(text(entry, "phase") == ROLLING_BACK for entry in entries)
    for look, verdict in enumerate(verdicts, 1):
        if verdict.action is Action.ROLL_BACK and verdict.reason not in HELD and not ended:
            return [f"the replay {_describe(look, verdict)}, status knows of no rollback"]
    return []


def _list_numbers(verdicts: Sequence[Verdict], states: Sequence[State], status: Object) -> list[str]:
    """Status shows the metrics of one of the looks, most likely of the last."""
    shown = {text(item, "name"): _get_shown(item) for item in mappings(status, "metrics")}
    if not shown or not verdicts:
        return []
    blind = (judge_blind(state, state.clock.last) for state in reversed(states))
    for verdict in (*reversed(verdicts), *blind):
        if shown == {metric.name: _get_replayed(metric) for metric in verdict.metrics}:
            return []
    last = {metric.name: _get_replayed(metric) for metric in verdicts[-1].metrics}
    name = next((name for name in shown if shown[name] != last.get(name)), "")
    return [f"metric {name}: status says {shown.get(name)}, the replay of the last look {last.get(name)}"]


def _get_shown(item: Object) -> tuple[Any, ...]:
    samples, evidence = mapping(item, "samples"), mapping(item, "evidence")
    arms = integer(samples, "canary"), integer(samples, "stable")
    return (
        text(item, "verdict"),
        text(item, "drop"),
        *arms,
        text(evidence, "rollback"),
        text(evidence, "promote"),
    )


def _get_replayed(metric: Any) -> tuple[Any, ...]:
    evidence = (f"{max(0.0, value):.2f}" for value in (metric.evidence_rollback, metric.evidence_promote))
    samples = int(metric.canary_samples), int(metric.stable_samples)
    return metric.verdict.value, metric.drop_text, *samples, *evidence


def _describe(look: int, verdict: Verdict) -> str:
    return f"{verdict.action} ({verdict.reason}: {verdict.message}) at look {look}"
