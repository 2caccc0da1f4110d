"""The commands that look: `get`, `status`, `history`, `explain`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import click

from dspy_operator.api.names import ROLLOUT_KIND
from dspy_operator.cli.access import Cluster, Target, open_cluster
from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.objects import mapping, parse_time, text
from dspy_operator.cli.options import duration, target_options
from dspy_operator.cli.render.data import Format, dump, write
from dspy_operator.cli.render.explain import explain_lines
from dspy_operator.cli.render.plain import status_line
from dspy_operator.cli.render.screen import Screen, print_lines
from dspy_operator.cli.render.tables import history_table
from dspy_operator.cli.views.build import deployment_view, rollout_view
from dspy_operator.cli.views.model import Deployment, Health
from dspy_operator.errors import Transient

POLL = 1.0
EXITS = {
    Health.HEALTHY: Exit.HEALTHY,
    Health.DEGRADED: Exit.DEGRADED,
    Health.IN_PROGRESS: Exit.IN_PROGRESS,
}


@click.command()
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="List all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Go on until interrupted.")
@click.option("-o", "--output", type=click.Choice([form.value for form in Format]), help="Another form.")
@target_options
def get(target: Target, name: str | None, *, everywhere: bool, watch: bool, output: str | None) -> Exit:
    """Show DSPyDeployments, or one as a tree: steps, revisions, pods, evidence."""
    if name and everywhere:
        raise click.UsageError("Give a NAME or -A, not both.")
    screen = Screen(Format(output) if output else None, namespaces=everywhere)
    asyncio.run(_get(target, name, screen, everywhere=everywhere, watch=watch))
    return Exit.HEALTHY


async def _get(target: Target, name: str | None, screen: Screen, *, everywhere: bool, watch: bool) -> None:
    async with open_cluster(target) as cluster:
        with screen.open(live=watch):
            while True:
                try:
                    await _show(cluster, name, screen, everywhere=everywhere)
                except Transient:
                    if not watch:
                        raise
                if not watch:
                    return
                await asyncio.sleep(POLL)


async def _show(cluster: Cluster, name: str | None, screen: Screen, *, everywhere: bool) -> None:
    if name:
        screen.show_one(await cluster.get_view(name), cluster.now)
    else:
        found = await cluster.list_deployments(everywhere=everywhere)
        screen.show_many([deployment_view(each) for each in found], cluster.now)


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait until it is healthy or degraded.")
@click.option(
    "--timeout", type=duration, metavar="DURATION", default="10m", show_default=True, help="How long to wait."
)
@target_options
def status(target: Target, name: str, *, wait: bool, timeout: float) -> Exit:
    """Exit 0 if healthy, 1 if degraded, 2 if in progress or timed out: for pipelines."""
    view = asyncio.run(_status(target, name, timeout if wait else 0.0))
    print_lines([status_line(view)])
    return EXITS[view.health]


async def _status(target: Target, name: str, timeout: float) -> Deployment:  # noqa: ASYNC109  shown while it waits
    async with open_cluster(target) as cluster:
        ends = asyncio.get_running_loop().time() + timeout
        said = ""
        while True:
            over = asyncio.get_running_loop().time() >= ends
            try:
                view = deployment_view(await cluster.get_deployment(name))
            except Transient:
                if over:
                    raise
            else:
                if view.health is not Health.IN_PROGRESS or over:
                    return view
                if (line := status_line(view)) != said:
                    print_lines([line])
                    said = line
            await asyncio.sleep(POLL)


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Another form.")
@target_options
def history(target: Target, name: str, output: str | None) -> Exit:
    """List the attempts and why each ended."""

    async def read() -> tuple[Sequence[dict[str, object]], float]:
        async with open_cluster(target) as cluster:
            return await cluster.list_rollouts(await cluster.get_deployment(name)), cluster.now

    found, now = asyncio.run(read())
    views = [rollout_view(rollout) for rollout in found]
    print_lines([dump(views, Format(output))] if output else history_table(views, now))
    return Exit.HEALTHY


@click.command()
@click.argument("name", required=False)
@click.option("--rollout", metavar="NAME", help="An attempt of `history`; by default the open or last one.")
@click.option(
    "--file", "file", metavar="FILE", help="A saved DSPyRollout instead, YAML or JSON; - is standard input."
)
@click.option(
    "--replay", is_flag=True, help="Judge every recorded look again; exit 1 if status says otherwise."
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Another form.")
@target_options
def explain(
    target: Target,
    name: str | None,
    rollout: str | None,
    file: str | None,
    *,
    replay: bool,
    output: str | None,
) -> Exit:
    """Say by which rule and which numbers a rollout was decided, or is not yet."""
    if (name is None) == (file is None):
        raise click.UsageError("Give a NAME or --file.")
    found, now = _read_file(file) if file else asyncio.run(_find_rollout(target, name or "", rollout))
    form = Format(output) if output else None
    if replay:
        return _replay(found, form)
    view = rollout_view(found)
    print_lines([dump(view, form)] if form else explain_lines(view, now))
    return Exit.HEALTHY


async def _find_rollout(target: Target, name: str, rollout: str | None) -> tuple[Mapping[str, Any], float]:
    async with open_cluster(target) as cluster:
        deployment = await cluster.get_deployment(name)
        if rollout is not None:
            found = await cluster.find_rollout(deployment, rollout)
        else:
            found = await cluster.find_current_rollout(deployment)
        if found is None:
            what = (
                f"has no rollout {rollout}" if rollout else "had no rollout yet: there is nothing to explain"
            )
            raise CliError(f"{name} {what}; `kubectl dspy history {name}` lists them.", Exit.USAGE)
        return found, cluster.now


def _read_file(file: str) -> tuple[Mapping[str, Any], float]:
    """A saved attempt, and when it was last written: ages are as of then."""
    from dspy_operator.cli.offline.manifests import read_manifest  # noqa: PLC0415  keeps the others quick

    found = read_manifest(file, ROLLOUT_KIND)
    return found, parse_time(text(mapping(found, "status", "decision"), "at")) or 0.0


def _replay(found: Mapping[str, Any], form: Format | None) -> Exit:
    from dspy_operator.cli.offline.replaying import build_replay  # noqa: PLC0415  keeps the others quick
    from dspy_operator.cli.render.replay import build_replay_data, replay_lines  # noqa: PLC0415  as above

    name = text(mapping(found, "metadata"), "name")
    try:
        replayed = build_replay(found)
    except ValueError as error:
        raise CliError(f"{name} cannot be replayed: {error}.", Exit.USAGE) from None
    lines = [write(build_replay_data(replayed), form)] if form else replay_lines(replayed)
    print_lines(lines)
    return Exit.DEGRADED if replayed.difference else Exit.HEALTHY
