"""Commands that people give as annotations: which are pending, and what each means where.

Every nonce acts once. Times order them: the latest of pause and resume wins, abort beats promote.
"""

from collections.abc import Iterable
from dataclasses import replace

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.actions import Decision, Notice
from dspy_operator.rollout.clock import parse_time
from dspy_operator.rollout.model import DeploymentRecord, Handled, Observation, Order, RolloutRecord, Target

KEPT = 16
"""Handled nonces of each command that are remembered, so that GitOps restoring an old one repeats nothing."""

_CONSUMED_WHEN_IDLE = frozenset({Command.PROMOTE, Command.PROMOTE_FULL, Command.ABORT})
_PAUSING = (Command.PAUSE, Command.RESUME)


def find_order(seen: Observation, *commands: Command) -> Order | None:
    """The latest pending order among these commands."""
    return max(
        (order for order in seen.orders if order.command in commands),
        key=lambda order: order.at,
        default=None,
    )


def build_handled(handled: Handled, orders: Iterable[Order]) -> Handled:
    """The nonces with these orders added, at most 16 of each command."""
    result = dict(handled)
    for order in orders:
        kept = [nonce for nonce in result.get(order.command, ()) if nonce != order.nonce]
        result[order.command] = tuple([*kept, order.nonce][-KEPT:])
    return result


def merge_handled(one: Handled, other: Handled) -> Handled:
    """Both histories, the newest last."""
    return {
        command: tuple(sorted({*one.get(command, ()), *other.get(command, ())}, key=_get_time)[-KEPT:])
        for command in sorted({*one, *other})
    }


def _get_time(nonce: str) -> float:
    return parse_time(nonce) or 0.0


def is_held_by_a_person(record: DeploymentRecord, rollout: RolloutRecord | None = None) -> bool:
    """Whether the latest handled `pause` is later than the latest handled `resume`."""
    handled = merge_handled(record.handled, rollout.handled) if rollout else record.handled
    paused, resumed = (max(map(_get_time, handled.get(command, ())), default=0.0) for command in _PAUSING)
    return paused > resumed


def to_an_idle_deployment(seen: Observation) -> Decision | None:
    """Consume what has no meaning without an attempt; note pause and resume; free a rejected revision."""
    idle = [order for order in seen.orders if order.command in {*_CONSUMED_WHEN_IDLE, *_PAUSING}]
    retry = find_order(seen, Command.RETRY)
    undo = find_order(seen, Command.UNDO)
    useless = [order for order in (undo,) if order and find_undo_revision(seen, order) is None]
    done = [*idle, *([retry] if retry else []), *useless]
    if not done:
        return None
    record = replace(seen.record, handled=build_handled(seen.record.handled, done))
    notices = [_get_notice(order) for order in done]
    revision = seen.target.program.revision if isinstance(seen.target, Target) else ""
    if retry and seen.record.is_rejected(revision):
        record = replace(record, rejected=tuple(r for r in record.rejected if r.revision != revision))
        notices.append(Notice(Reason.RETRIED, f"Revision {revision} may be tried again"))
    message = "Noting " + ", ".join(f"`{order.command}`" for order in done)
    shown = tuple(notice for notice in notices if notice)
    return Decision(Reason.HEALTHY, message, deployment=record, notices=shown, wait=0)


def find_undo_revision(seen: Observation, order: Order) -> str | None:
    """Where an undo goes: the revision it names, else the last promoted one other than stable.

    Of another workload too: its ControllerRevision says what its pods run.
    """
    if seen.record.stable is None:
        return None
    candidates = [revision for revision in seen.previous if revision in seen.revisions]
    if order.argument:
        return order.argument if order.argument in candidates else None
    return candidates[0] if candidates else None


def to_an_open_attempt(seen: Observation) -> Decision | None:
    """Note pause and resume in the attempt's record; consume `retry`, which has no meaning here."""
    rollout = seen.rollout
    if rollout is None:
        return None
    done = [order for order in seen.orders if order.command in _PAUSING]
    done += [order for order in seen.orders if order.command is Command.RETRY]
    if not done:
        return None
    record = replace(rollout.record, handled=build_handled(rollout.record.handled, done))
    return Decision(record.reason, record.message, rollout=record, wait=0)


def _get_notice(order: Order) -> Notice | None:
    match order.command:
        case Command.PAUSE:
            return Notice(Reason.PAUSED, "Paused by a person")
        case Command.RESUME:
            return Notice(Reason.RESUMED, "Resumed by a person")
        case Command.UNDO:
            return Notice(
                Reason.COMMAND_REFUSED,
                "Nothing to undo: no such promoted revision is kept",
                warning=True,
            )
        case _:
            return None
