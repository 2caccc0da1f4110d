"""The entry point: quick help, exit codes, one sentence for each error."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from dspy_operator.cli.access import Target
from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import COMMANDS, cli, run
from dspy_operator.cli.options import target_options


def test_every_command_of_the_table_exists_and_says_what_it_does() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_help_imports_neither_the_client_nor_the_terminal_library() -> None:
    program = (
        "import sys; from dspy_operator.cli.main import run; run(['--help']);"
        "print(sorted({'kubernetes', 'rich', 'kopf', 'pydantic', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    *help_text, imported = done.stdout.splitlines()
    assert any("promote" in line for line in help_text)
    assert imported == "[]"


def test_no_command_imports_kopf() -> None:
    program = "import sys, dspy_operator.cli.reading, dspy_operator.cli.asking, dspy_operator.kube.client; "
    program += "sys.exit('kopf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["status"],
        ["get", "a", "b"],
        ["get", "name", "-A"],
        ["get", "-o", "xml"],
        ["status", "name", "--timeout", "soon"],
        ["promote", "name", "--unknown"],
    ],
)
def test_a_wrong_command_line_ends_with_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.USAGE
    assert "Error" in capsys.readouterr().err


def test_without_a_kubeconfig_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run(["get", "--kubeconfig", str(tmp_path / "none")]) == Exit.INTERNAL
    assert "no Kubernetes configuration" in capsys.readouterr().err


def test_an_api_server_that_is_not_there_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config"
    file.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\n"
        "clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: x, user: {}}]\n"
    )
    assert run(["get", "--kubeconfig", str(file)]) == Exit.INTERNAL
    error = capsys.readouterr().err
    assert error.startswith("Error: The API server did not answer")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "namespace"),
    [
        (["-n", "ml", "show"], "ml"),
        (["show", "-n", "ml"], "ml"),
        (["-n", "other", "show", "-n", "ml"], "ml"),
        (["show"], None),
    ],
)
def test_where_to_look_may_stand_before_or_after_the_command(
    arguments: list[str], namespace: str | None
) -> None:
    asked: list[Target] = []

    @click.command()
    @target_options
    def show(target: Target) -> None:
        asked.append(target)

    root = click.Group("root", params=cli.params, commands={"show": show})
    root.main(arguments, standalone_mode=False)
    assert [target.namespace for target in asked] == [namespace]
