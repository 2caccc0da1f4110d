"""Where `get` draws: a live tree on a terminal, plain lines elsewhere, JSON or YAML when asked."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspy_operator.cli.render.data import Format, dump
from dspy_operator.cli.render.plain import deployment_lines, watch_line
from dspy_operator.cli.render.tables import deployments_table
from dspy_operator.cli.views.model import Deployment

if TYPE_CHECKING:
    from rich.live import Live


def print_lines(lines: Sequence[str]) -> None:
    """Print and flush: a pipe's reader sees each change at once."""
    print("\n".join(lines), flush=True)


def is_terminal() -> bool:
    """Tell whether a person looks at the output."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Screen:
    """Shows views one after the other; shown again, only what changed is written (a live tree is redrawn)."""

    def __init__(self, form: Format | None, *, namespaces: bool = False) -> None:
        self._form = form
        self._namespaces = namespaces
        self._live: Live | None = None
        self._shown: str | None = None

    @contextmanager
    def open(self, *, live: bool) -> Iterator[None]:
        """Take the terminal for as long as the command watches."""
        if not live or not is_terminal() or self._form in {Format.JSON, Format.YAML}:
            yield
            return
        from rich.console import Console  # noqa: PLC0415  only where it draws
        from rich.live import Live  # noqa: PLC0415  as above

        with Live(console=Console(), auto_refresh=False, vertical_overflow="visible") as self._live:
            yield

    def show_one(self, view: Deployment, now: float) -> None:
        """Show one DSPyDeployment."""
        wide = self._form is Format.WIDE
        if self._form in {Format.JSON, Format.YAML}:
            self._print_changed(dump(view, self._form))
        elif is_terminal():
            self._draw(view, now, wide=wide)
        elif self._shown is None:
            print_lines(deployment_lines(view, now, wide=wide))
            self._shown = _signature(view)
        elif self._shown != _signature(view):
            print_lines([watch_line(view, now)])
            self._shown = _signature(view)

    def show_many(self, views: Sequence[Deployment], now: float) -> None:
        """Show a list of DSPyDeployments."""
        if self._form in {Format.JSON, Format.YAML}:
            self._print_changed(dump(list(views), self._form))
            return
        wide = self._form is Format.WIDE
        lines = deployments_table(views, now, namespaces=self._namespaces, wide=wide)
        if not views:
            lines = ["There are no DSPyDeployments here; -A looks in all namespaces."]
        if self._live is not None:
            from rich.text import Text  # noqa: PLC0415  only where it draws

            self._live.update(Text("\n".join(lines)), refresh=True)
        else:
            self._print_changed("\n".join(lines))

    def _draw(self, view: Deployment, now: float, *, wide: bool) -> None:
        from rich.console import Console  # noqa: PLC0415  only where it draws

        from dspy_operator.cli.render.tree import deployment_tree  # noqa: PLC0415  as above

        tree = deployment_tree(view, now, wide=wide)
        if self._live is not None:
            self._live.update(tree, refresh=True)
        else:
            Console().print(tree)

    def _print_changed(self, written: str) -> None:
        if written != self._shown:
            print_lines([written])
        self._shown = written


def _signature(view: Deployment) -> str:
    """Say all that a new line of a log would be worth."""
    return f"{view.health} {view.phase} {view.weight} {view.step} {view.message}"
