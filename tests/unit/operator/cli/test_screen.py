"""What `get --watch` writes: a log in a pipe, each change once; a live tree on a terminal."""

import io
import json
from contextlib import redirect_stdout

import pytest
from tests.unit.operator.cli import samples

from dspy_operator.cli.render.data import Format
from dspy_operator.cli.render.screen import Screen, is_terminal
from dspy_operator.cli.views.build import deployment_view
from dspy_operator.cli.views.model import Deployment

Captured = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "130")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def canary(message: str = "", weight: int = 10) -> Deployment:
    found = samples.deployment()
    found["status"] |= {"message": message or found["status"]["message"], "weight": weight}
    return deployment_view(found, samples.rollout())


def test_a_pipe_gets_everything_once_and_then_a_line_for_each_change(capsys: Captured) -> None:
    screen = Screen(None)
    with screen.open(live=True):
        screen.show_one(canary(), samples.NOW)
        first = capsys.readouterr().out
        screen.show_one(canary(), samples.NOW + 1)
        unchanged = capsys.readouterr().out
        screen.show_one(canary("50 % now", weight=50), samples.NOW + 2)
    assert first.count("\n") > 5
    assert unchanged == ""
    assert capsys.readouterr().out == (
        "2026-11-23 10:12:32Z  support-triage  Progressing  step 1 of 3, 50 %  50 % now\n"
    )


def test_a_terminal_gets_a_coloured_tree_that_is_redrawn(terminal: Terminal) -> None:
    screen = Screen(None)
    with redirect_stdout(terminal), screen.open(live=True):
        screen.show_one(canary(), samples.NOW)
        screen.show_one(canary("50 % now", weight=50), samples.NOW + 1)
    drawn = terminal.getvalue()
    assert "├── " in drawn
    assert "50 % now" in drawn
    assert "\x1b[1A" in drawn  # the cursor goes up: drawn over, not appended
    assert "\x1b[32m" in drawn


def test_no_color_is_respected(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stdout(terminal):
        Screen(None).show_one(canary(), samples.NOW)
    drawn = terminal.getvalue()
    assert "├── " in drawn
    assert not [code for code in range(30, 38) if f"\x1b[{code}m" in drawn]


def test_a_dumb_terminal_gets_plain_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stdout(terminal):
        assert not is_terminal()
        Screen(None).show_one(canary(), samples.NOW)
    assert "\x1b" not in terminal.getvalue()


def test_json_is_written_again_only_when_it_changed(capsys: Captured) -> None:
    screen = Screen(Format.JSON)
    with screen.open(live=True):
        screen.show_one(canary(), samples.NOW)
        screen.show_one(canary(), samples.NOW + 1)
    assert json.loads(capsys.readouterr().out)["name"] == samples.NAME


def test_an_empty_namespace_says_where_to_look(capsys: Captured) -> None:
    Screen(None).show_many([], samples.NOW)
    assert capsys.readouterr().out == "There are no DSPyDeployments here; -A looks in all namespaces.\n"
