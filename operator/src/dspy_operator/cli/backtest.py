"""`kubectl dspy backtest`: the decision core over recorded looks, without a cluster."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.offline.lines import BadLine, Run, build_runs, has_scores, list_lines
from dspy_operator.cli.offline.manifests import read_strategy
from dspy_operator.cli.offline.walk import find_summary, walk
from dspy_operator.cli.render.backtest import build_row, build_summary, json_lines, table_lines
from dspy_operator.cli.render.screen import is_terminal
from dspy_operator.rollout.judging import RolloutConfig


@click.command()
@click.option(
    "--config", required=True, metavar="FILE", help="A DSPyDeployment (or DSPyRollout), YAML or JSON."
)
@click.option("--looks", required=True, metavar="FILE", help="Looks as JSON lines; - is standard input.")
@click.option("--summary", is_flag=True, help="One line a run: how it ended, when and after which samples.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["json", "table"]),
    help="By default a table on a terminal, else JSON.",
)
def backtest(config: str, looks: str, *, summary: bool, output: str | None) -> Exit:
    """Judge recorded looks as the operator would, with every weight in effect at once."""
    if config == looks == "-":
        raise click.UsageError("--config and --looks cannot both be standard input.")
    judged, runs = _read(config, looks)
    _warn_of_missing(judged, runs)
    rows = _list_summaries(judged, runs) if summary else _list_rows(judged, runs)
    as_table = output == "table" or (output is None and is_terminal())
    for line in table_lines(rows, is_summary=summary) if as_table else json_lines(rows):
        print(line)
    sys.stdout.flush()
    return Exit.HEALTHY


def _read(config: str, looks: str) -> tuple[RolloutConfig, list[Run]]:
    try:
        with click.open_file(looks, encoding="utf-8") as stream:
            lines = list_lines(stream)
        judged = read_strategy(config, has_scores=has_scores(lines)).config
        return judged, build_runs(lines, {metric.name: metric.type for metric in judged.metrics})
    except BadLine as error:
        raise CliError(f"{looks}, {error}", Exit.USAGE) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{looks} cannot be read: {error}", Exit.USAGE) from None


def _warn_of_missing(config: RolloutConfig, runs: list[Run]) -> None:
    seen = {name for run in runs for look in run.looks for name in look.metrics}
    missing = [metric.name for metric in config.deciding if metric.name not in seen]
    if seen and missing:
        click.echo(
            f"Warning: no look has {' and '.join(missing)}, and without it nothing is promoted: leave it out of "
            "the metrics of --config to judge by the others alone.",
            err=True,
        )


def _list_rows(config: RolloutConfig, runs: list[Run]) -> Iterator[dict[str, Any]]:
    return (build_row(run.name, row) for run in runs for row in walk(config, run))


def _list_summaries(config: RolloutConfig, runs: list[Run]) -> Iterator[dict[str, Any]]:
    found = ((run.name, find_summary(walk(config, run))) for run in runs)
    return (build_summary(name, summary) for name, summary in found if summary is not None)
