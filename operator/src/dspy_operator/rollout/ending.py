"""The ends of an attempt: rolling back, closing, and what is left of one whose record was lost.

A rollback is recorded first and needs nothing: no metric, no readiness, no confirmation.
"""

from collections.abc import Iterable
from dataclasses import replace

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.clock import format_time
from dspy_operator.rollout.model import (
    Decision,
    DeploymentRecord,
    Entry,
    Notice,
    Observation,
    Order,
    Phase,
    Rejected,
    Rollout,
    RolloutRecord,
    SetSplit,
    Stable,
)
from dspy_operator.rollout.orders import build_handled, merge_handled
from dspy_operator.rollout.world import REFRESH_WAIT, find_wanted_split

ENTRIES = 40
"""Lines of history kept in an attempt's record."""

_NOTICES = {
    Phase.PROMOTED: Reason.PROMOTED,
    Phase.ROLLED_BACK: Reason.ROLLED_BACK,
    Phase.ABORTED: Reason.ABORTED,
    Phase.SUPERSEDED: Reason.SUPERSEDED,
}


def build_next(seen: Observation, rollout: Rollout, changed: RolloutRecord) -> RolloutRecord:
    """The changed record as the next decision: numbered, and with a line in its history."""
    number = rollout.record.number + 1
    entry = Entry(
        seen.now,
        number,
        changed.phase,
        changed.step,
        changed.weight,
        str(changed.reason),
        changed.message[:300],
    )
    return replace(changed, number=number, entries=(*rollout.record.entries, entry)[-ENTRIES:])


def build_roll_back(
    seen: Observation, outcome: Phase, reason: Reason | str, message: str, orders: Iterable[Order] = ()
) -> Decision:
    """Record RollingBack with its outcome and send everything to stable in the same pass."""
    rollout = _get_rollout(seen)
    changed = replace(
        rollout.record,
        phase=Phase.ROLLING_BACK,
        outcome=outcome,
        reason=reason,
        message=message,
        weight=0,
        awaiting=False,
        handled=build_handled(rollout.record.handled, orders),
        analysis=seen.judging.analysis or rollout.record.analysis,
    )
    record = build_next(seen, rollout, changed)
    split = find_wanted_split(replace(seen, rollout=replace(rollout, record=record)))
    action = SetSplit(split, rollout.name, record.number) if split else None
    return Decision(
        reason,
        message,
        rollout=record,
        action=action,
        wait=0,
        analysis=record.analysis,
        verdict=seen.judging.verdict,
    )


def the_record_is_lost(seen: Observation) -> Decision | None:
    """The pointer names an attempt that is gone, or whose record is older than the table that it caused."""
    pointer, rollout = seen.record.pointer, seen.rollout
    if pointer is None:
        return None
    message = f"The record of attempt {pointer.rollout} was lost: everything goes back to stable"
    if rollout is not None:
        ahead = (
            seen.table and seen.table.rollout == rollout.name and seen.table.number > rollout.record.number
        )
        if not ahead or not rollout.known:
            return None
        return build_roll_back(seen, Phase.ABORTED, Reason.RECORD_LOST, message)
    split = find_wanted_split(seen)
    if split and seen.table and seen.table.split != split:
        return Decision(Reason.RECORD_LOST, message, action=SetSplit(split, "", 0), wait=REFRESH_WAIT)
    record = _reject(replace(seen.record, pointer=None), pointer.revision, Reason.RECORD_LOST, seen.now)
    return Decision(
        Reason.RECORD_LOST,
        message,
        deployment=record,
        wait=0,
        notices=(Notice(Reason.RECORD_LOST, message, warning=True),),
    )


def the_phase_is_unknown(seen: Observation) -> Decision | None:
    """Another version of the operator wrote this record: hold, touch nothing."""
    rollout = _get_rollout(seen)
    if rollout.known:
        return None
    return Decision(
        Reason.ROLLOUT_IN_PROGRESS, f"Attempt {rollout.name} was written by another operator version: holding"
    )


def it_is_rolling_back(seen: Observation) -> Decision | None:
    """Once the table gives the canary nothing, the attempt ends; confirmation is not waited for."""
    rollout = _get_rollout(seen)
    record = rollout.record
    if record.phase is not Phase.ROLLING_BACK:
        return None
    split = find_wanted_split(seen)
    if split and not (seen.table and seen.table.intact and seen.table.split == split):
        action = SetSplit(split, rollout.name, record.number)
        return Decision(record.reason, record.message, action=action, wait=0)
    ended = build_next(seen, rollout, replace(record, phase=record.outcome or Phase.ABORTED))
    return Decision(record.reason, record.message, rollout=ended, wait=0)


def the_attempt_is_over(seen: Observation) -> Decision | None:
    """Close: the deployment's record takes over the outcome, in one write."""
    rollout = _get_rollout(seen)
    if not rollout.record.phase.is_end:
        return None
    record = _close(seen, rollout)
    notice = Notice(
        _NOTICES[rollout.record.phase],
        rollout.record.message,
        warning=rollout.record.phase is Phase.ROLLED_BACK,
    )
    return Decision(
        rollout.record.reason, rollout.record.message, deployment=record, notices=(notice,), wait=0
    )


def _close(seen: Observation, rollout: Rollout) -> DeploymentRecord:
    source = seen.record.pointer.source if seen.record.pointer else rollout.to.revision
    record = replace(
        seen.record, pointer=None, handled=merge_handled(seen.record.handled, rollout.record.handled)
    )
    match rollout.record.phase:
        case Phase.PROMOTED:
            stable = Stable(rollout.to.revision, rollout.to.sha256, format_time(seen.now))
            record = replace(record, stable=stable, rejected=())
            if source != rollout.to.revision:
                return _reject(record, source, Reason.UNDONE, seen.now)
            return record
        case Phase.ROLLED_BACK | Phase.ABORTED:
            return _reject(record, rollout.to.revision, rollout.record.reason, seen.now)
        case _:
            return record


def _reject(record: DeploymentRecord, revision: str, reason: Reason | str, now: float) -> DeploymentRecord:
    others = tuple(entry for entry in record.rejected if entry.revision != revision)
    return replace(record, rejected=(*others, Rejected(revision, str(reason), format_time(now)))[-_REJECTED:])


_REJECTED = 20


def _get_rollout(seen: Observation) -> Rollout:
    if seen.rollout is None:
        raise AssertionError("this rule needs an open attempt")
    return seen.rollout
