"""`kubectl dspy`, started by kubectl as `kubectl-dspy`: finds the command, turns errors into exit codes."""

import sys
from importlib import import_module

import click

from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.options import where_options

COMMANDS = {
    "get": ("reading", "Show DSPyDeployments, or one as a live tree."),
    "status": ("reading", "Tell pipelines whether a DSPyDeployment is healthy."),
    "history": ("reading", "List the attempts and why each ended."),
    "explain": ("reading", "Say by which rule and numbers a rollout was decided."),
    "plan": ("planning", "Say what each step takes at today's traffic."),
    "backtest": ("backtest", "Judge recorded looks offline."),
    "promote": ("asking", "Go to the next step, or with --full to all traffic, now."),
    "abort": ("asking", "Send all traffic back to stable and reject the canary."),
    "retry": ("asking", "Try a rejected revision again."),
    "undo": ("asking", "Go back to a promoted revision."),
    "pause": ("asking", "Hold at this step."),
    "resume": ("asking", "Go on after pause."),
}
"""Each command's module and summary: a module is imported when its command runs, so that `--help` is quick."""


class Lazy(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """List the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's
        """Import a command by its name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"dspy_operator.cli.{COMMANDS[cmd_name][0]}"), cmd_name
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """Write the summaries without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Lazy, name="kubectl dspy", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dspy-operator", prog_name="kubectl dspy")
@where_options
def cli(**_: str | None) -> None:
    """Watch and steer the rollouts of compiled DSPy programs."""


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors go to standard error, one sentence each."""
    try:
        return int(cli.main(arguments, prog_name="kubectl dspy", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except click.Abort:
        return 130
    except CliError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return Exit.HEALTHY


def main() -> None:
    """Entry point of the console script `kubectl-dspy`."""
    sys.exit(run())
