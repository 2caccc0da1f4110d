"""The commands that ask the operator for something: they write an annotation and wait until it is handled."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from dspy_operator.api.names import Command
from dspy_operator.cli.access import Cluster, Target, open_cluster
from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.nonce import handled_nonces, known_nonces, next_nonce
from dspy_operator.cli.objects import mapping, text
from dspy_operator.cli.options import duration, target_options
from dspy_operator.cli.render.outcome import outcome_lines
from dspy_operator.cli.render.screen import print_lines
from dspy_operator.cli.views.build import deployment_view
from dspy_operator.cli.views.model import Deployment
from dspy_operator.errors import Transient

POLL, SETTLE = 0.25, 0.75

timeout_option = click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    default="30s",
    show_default=True,
    help="How long the operator may take.",
)


@dataclass(frozen=True)
class Handled:
    """A DSPyDeployment before a command and once the operator has handled it."""

    before: Deployment
    after: Deployment


@click.command()
@click.argument("name")
@click.option("--full", is_flag=True, help="Skip the steps that are left: all traffic now, then the bake.")
@timeout_option
@target_options
def promote(target: Target, name: str, *, full: bool, timeout: float) -> Exit:
    """Go to the next step now, whatever the evidence says."""
    return _ask(target, name, Command.PROMOTE_FULL if full else Command.PROMOTE, timeout)


@click.command()
@click.argument("name")
@timeout_option
@target_options
def abort(target: Target, name: str, timeout: float) -> Exit:
    """Send all traffic back to stable and reject the canary."""
    return _ask(target, name, Command.ABORT, timeout)


@click.command()
@click.argument("name")
@timeout_option
@target_options
def retry(target: Target, name: str, timeout: float) -> Exit:
    """Try a rejected revision again, from the first step."""
    return _ask(target, name, Command.RETRY, timeout)


@click.command()
@click.argument("name")
@click.option("--to", "revision", metavar="REV", help="A promoted revision or version of `history`.")
@timeout_option
@target_options
def undo(target: Target, name: str, revision: str | None, timeout: float) -> Exit:
    """Go back to the last promoted revision, without steps; during a rollout, abort it."""
    return _ask(target, name, Command.UNDO, timeout, revision or "")


@click.command()
@click.argument("name")
@timeout_option
@target_options
def pause(target: Target, name: str, timeout: float) -> Exit:
    """Hold at this step; a bad canary is still rolled back."""
    return _ask(target, name, Command.PAUSE, timeout)


@click.command()
@click.argument("name")
@timeout_option
@target_options
def resume(target: Target, name: str, timeout: float) -> Exit:
    """Go on after `pause`."""
    return _ask(target, name, Command.RESUME, timeout)


def _ask(target: Target, name: str, command: Command, timeout: float, revision: str = "") -> Exit:
    handled = asyncio.run(_carry_out(target, name, command, timeout, revision))
    print_lines(outcome_lines(command, handled.before, handled.after))
    return Exit.HEALTHY


async def _carry_out(
    target: Target,
    name: str,
    command: Command,
    timeout: float,  # noqa: ASYNC109  the message names it
    revision: str,
) -> Handled:
    async with open_cluster(target) as cluster:
        deployment = await cluster.get_deployment(name)
        rollout = await _find_open_rollout(cluster, deployment)
        argument = f"/{await _get_revision(cluster, deployment, revision)}" if revision else ""
        nonce = next_nonce(cluster.now, known_nonces(deployment, rollout))
        await cluster.annotate(name, command.annotation, f"{nonce}{argument}")
        attempt = text(mapping(deployment, "status", "canary"), "rollout")
        try:
            async with asyncio.timeout(timeout):
                after = await _wait_until_handled(cluster, name, attempt, command, nonce)
        except TimeoutError:
            raise CliError(
                f"The operator has not handled {command} within {timeout:g} s; it will when it can. "
                f"Is it running? `kubectl dspy get {name}` shows what it waits for.",
                Exit.IN_PROGRESS,
            ) from None
        return Handled(deployment_view(deployment, rollout), after)


async def _wait_until_handled(
    cluster: Cluster, name: str, attempt: str, command: Command, nonce: str
) -> Deployment:
    """Poll until the DSPyDeployment's record or that of the attempt holds the nonce."""
    is_handled = False
    while True:
        with suppress(Transient):  # an API server that is away for a moment is only waited for
            deployment = await cluster.get_deployment(name)
            named = attempt or text(mapping(deployment, "status", "canary"), "rollout")
            rollout = await cluster.find_rollout(deployment, named) if named else None
            if is_handled:
                return deployment_view(deployment, rollout)
            # Once more after the nonce was seen: what people read is written after what was decided.
            is_handled = nonce in handled_nonces(deployment, rollout, command)
        await asyncio.sleep(SETTLE if is_handled else POLL)


async def _find_open_rollout(cluster: Cluster, deployment: Mapping[str, Any]) -> Mapping[str, Any] | None:
    name = text(mapping(deployment, "status", "canary"), "rollout")
    return await cluster.find_rollout(deployment, name) if name else None


async def _get_revision(cluster: Cluster, deployment: Mapping[str, Any], wanted: str) -> str:
    rollouts = await cluster.list_rollouts(deployment)
    if found := find_revision(wanted, rollouts):
        return found
    name = text(mapping(deployment, "metadata"), "name")
    raise CliError(
        f"No rollout of {name} knows {wanted}: `kubectl dspy history {name}` lists what can be undone to.",
        Exit.USAGE,
    )


def find_revision(wanted: str, rollouts: Sequence[Mapping[str, Any]]) -> str | None:
    """Find the newest revision that `wanted` names, by its hash or by its version (`history` shows both)."""
    for rollout in reversed(rollouts):
        for side in ("to", "from"):
            ref = mapping(rollout, "spec", side)
            if wanted in {text(ref, "revision"), text(ref, "version"), text(ref, "sha256")}:
                return text(ref, "revision")
    return None
