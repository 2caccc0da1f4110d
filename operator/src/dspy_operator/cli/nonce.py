"""Command nonces: RFC 3339 times by the API server's clock, each later than all that came before. Pure."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dspy_operator.api.names import Command
from dspy_operator.cli.objects import list_of, mapping, parse_time

FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def next_nonce(now: float, known: Iterable[str]) -> str:
    """Return a nonce for `now` (epoch seconds), a second later than every known one: the latest wins."""
    times = [at for nonce in known if (at := parse_time(nonce)) is not None]
    moment = datetime.fromtimestamp(int(now), UTC)
    if times and max(times) >= moment.timestamp():
        moment = datetime.fromtimestamp(int(max(times)), UTC) + timedelta(seconds=1)
    return moment.strftime(FORMAT)


def known_nonces(deployment: Mapping[str, Any], rollout: Mapping[str, Any] | None) -> list[str]:
    """List the nonces that the annotations ask for or that a status says are handled."""
    annotations = mapping(deployment, "metadata", "annotations")
    asked = [str(annotations[c.annotation]) for c in Command if c.annotation in annotations]
    return [bare(nonce) for nonce in asked + handled_nonces(deployment, rollout, None)]


def handled_nonces(
    deployment: Mapping[str, Any], rollout: Mapping[str, Any] | None, command: Command | None
) -> list[str]:
    """List the handled nonces of one command (of all: None) in both records."""
    handled: list[str] = []
    for record in (deployment, rollout or {}):
        by_command = mapping(record, "status", "handledCommands")
        names = by_command if command is None else [command.value]
        for name in names:
            handled += [bare(str(nonce)) for nonce in list_of(by_command, name)]
    return handled


def bare(value: str) -> str:
    """Return the nonce of an annotation's value; `undo` may add `/revision`."""
    return value.partition("/")[0]
