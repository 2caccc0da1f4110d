"""The table, the goals, the JSON file."""

import json
import pstats
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.goal import Goal
from bench.operator.measuring import Figures

RIVALS: Final = (
    ("Argo Rollouts", {"queries": "300", "writes": "461", "rss": "106"}),
    ("Flagger", {"queries": "300", "requests": "4034", "rss": "91"}),
)
"""Measured once in the same situation: 50 canaries idle at their first step, a look every 10 s."""


def list_goals(figures: Figures) -> list[Goal]:
    """The goals that apply to a run."""
    goals = [
        Goal("queries a minute", max(figures.queries, figures.queries_seen), 24),
        Goal("status writes a minute and rollout", figures.status_writes_per_rollout, 2),
    ]
    return [*goals, Goal("MiB", figures.rss_mib, 110)] if figures.rollouts <= 50 else goals


def print_report(runs: Sequence[Figures]) -> None:
    """The table of all runs beside what others need, then each run's requests, then the goals."""
    head = ("", "queries/min", "requests/min", "writes/min", "status writes", "CPU s/min", "RSS MiB", "peak")
    rows = [head, *(_build_row(run) for run in runs), *(_build_rival(*rival) for rival in RIVALS)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print("status writes: a minute and rollout; others: 50 canaries, measured in the same situation")
    for run in runs:
        _print_details(run)
    for rollouts, goal in ((run.rollouts, goal) for run in runs for goal in list_goals(run)):
        print(
            f"{rollouts:5d} rollouts: {goal.value:7.2f} {goal.name} (at most {goal.limit:g}): {goal.verdict}"
        )


def write_report(runs: Sequence[Figures], file: Path) -> None:
    """All numbers as JSON."""
    goals = [
        {"rollouts": run.rollouts, **asdict(goal), "met": goal.is_met}
        for run in runs
        for goal in list_goals(run)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"runs": [asdict(run) for run in runs], "goals": goals, "others": dict(RIVALS)}
    file.write_text(json.dumps(content, indent=2) + "\n")


def print_profile(file: Path, lines: int = 40) -> None:
    """Where the operator's main thread spent its time."""
    stats = pstats.Stats(str(file))
    stats.strip_dirs().sort_stats("tottime").print_stats(lines)
    stats.sort_stats("cumulative").print_stats(2 * lines)


def _build_row(run: Figures) -> tuple[str, ...]:
    return (
        f"dspy-operator, {run.rollouts}",
        f"{run.queries_seen:.1f}",
        f"{run.request_total:.0f}",
        f"{run.write_total:.0f}",
        f"{run.status_writes_per_rollout:.2f}",
        f"{run.cpu_seconds:.1f}",
        f"{run.rss_mib:.0f}",
        f"{run.peak_mib:.0f}",
    )


def _build_rival(name: str, known: dict[str, str]) -> tuple[str, ...]:
    columns = ("queries", "requests", "writes", "status", "cpu", "rss", "peak")
    return (f"{name}, 50", *(known.get(column, "") for column in columns))


def _print_details(run: Figures) -> None:
    print(
        f"\n{run.rollouts} rollouts, {run.minutes:.1f} min: requests a minute as the API server counted them"
    )
    for what, n in sorted(run.audited.items(), key=lambda item: -item[1]):
        print(f"  {n:9.1f}  {what}")
    own = sum(run.requests.values())
    print(f"  {own:9.1f}  by the operator's own count (without kopf's watches)")
    print(f"  {run.queries:9.1f}  queries by the operator's own count, {run.queries_seen:.1f} by Prometheus'")
    print(f"  {run.passes:9.1f}  full passes of {run.pass_ms:.1f} ms; failed: {dict(run.errors) or 'none'}\n")
