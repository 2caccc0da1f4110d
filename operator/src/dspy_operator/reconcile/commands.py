"""Annotations of the user's resource as orders: the pending ones, each with the time of its nonce."""

from collections.abc import Mapping
from typing import Final

from dspy_operator.api.names import Command
from dspy_operator.rollout.clock import parse_time
from dspy_operator.rollout.model import DeploymentRecord, Order, Rollout
from dspy_operator.rollout.orders import merge_handled

LONGEST_NONCE: Final = 64


def list_orders(
    annotations: Mapping[str, str], record: DeploymentRecord, rollout: Rollout | None
) -> tuple[Order, ...]:
    """The commands that nobody has handled yet; what is no RFC 3339 time is no command."""
    handled = merge_handled(record.handled, rollout.record.handled) if rollout else record.handled
    orders: list[Order] = []
    for command in Command:
        value = annotations.get(command.annotation)
        if not value:
            continue
        nonce, _, argument = value.partition("/")
        at = parse_time(nonce) if len(value) <= LONGEST_NONCE else None
        if at is not None and nonce not in handled.get(command, ()):
            orders.append(Order(command, nonce, at, argument if command is Command.UNDO else ""))
    return tuple(orders)
