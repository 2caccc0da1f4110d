"""Options that several commands share, spelled as kubectl spells them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from dspy_operator.cli.access import Target

Function = Callable[..., Any]


def duration(value: str) -> float:
    """Return the seconds of a duration such as `90s` or `10m`."""
    from dspy_operator.api.quantities import parse_duration  # noqa: PLC0415  keeps `--help` quick

    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        raise click.BadParameter(f"{value} is no duration: write it like 90s or 10m.") from None


def target_options(function: Function) -> Function:
    """Add -n, --context and --kubeconfig; the command gets them as `target`.

    As with kubectl they may also stand before the command: what stands after it wins.
    """

    @where_options
    @wraps(function)
    def command(namespace: str | None, context: str | None, kubeconfig: str | None, **rest: Any) -> Any:
        before = click.get_current_context().find_root().params
        target = Target(
            namespace or before.get("namespace"),
            context or before.get("context"),
            kubeconfig or before.get("kubeconfig"),
        )
        return function(target=target, **rest)

    return command


def where_options(function: Function) -> Function:
    """Add -n, --context and --kubeconfig."""
    for option in (
        click.option("--kubeconfig", metavar="FILE", help="Kubeconfig file."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("-n", "--namespace", metavar="NS", help="Namespace; by default that of the context."),
    ):
        function = option(function)
    return function
