"""Lists as kubectl prints them: columns padded with spaces, the same on a terminal and in a pipe. Pure."""

from collections.abc import Sequence

from dspy_operator.cli.views.model import Deployment, Rollout
from dspy_operator.cli.views.units import age, percent, since

GAP = "   "


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns; an empty cell shows as `-`, except in the last column."""
    cells = [list(headings), *([cell or "-" for cell in row[:-1]] + [row[-1]] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    padded = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return [line.rstrip() for line in padded]


def deployments_table(
    views: Sequence[Deployment], now: float, *, namespaces: bool = False, wide: bool = False
) -> list[str]:
    """List DSPyDeployments."""
    headings = ["NAME", "READY", "PHASE", "WEIGHT", "STABLE", "CANARY", "STEP", "SCORE", "AGE"]
    rows = [_row(view, now) for view in views]
    if namespaces:
        headings = ["NAMESPACE", *headings]
        rows = [[view.namespace, *row] for view, row in zip(views, rows, strict=True)]
    if wide:
        headings = [*headings, "REASON", "MESSAGE"]
        rows = [[*row, view.reason, view.message] for view, row in zip(views, rows, strict=True)]
    return table(headings, rows)


def history_table(rollouts: Sequence[Rollout], now: float) -> list[str]:
    """List the attempts of one DSPyDeployment, the newest last, and why each ended."""
    headings = [
        "ROLLOUT",
        "FROM",
        "TO",
        "PHASE",
        "STEP",
        "SCORE",
        "P95",
        "STARTED",
        "TOOK",
        "REASON",
        "MESSAGE",
    ]
    rows = [
        [
            rollout.name,
            rollout.from_version,
            rollout.to_version,
            rollout.phase,
            _step(rollout.step, len(rollout.steps)),
            rollout.score,
            rollout.p95,
            since(now, rollout.started_at),
            _took(rollout),
            rollout.reason,
            rollout.message,
        ]
        for rollout in rollouts
    ]
    return table(headings, rows)


def _row(view: Deployment, now: float) -> list[str]:
    return [
        view.name,
        view.ready,
        view.phase,
        percent(view.weight) if view.canary else "",
        view.stable.version if view.stable else "",
        view.canary.version if view.canary else "",
        _step(view.step, view.steps),
        view.score,
        since(now, view.created_at),
    ]


def _step(step: int | None, steps: int | None) -> str:
    if not step:
        return ""
    return f"{step}/{steps}" if steps else str(step)


def _took(rollout: Rollout) -> str:
    if rollout.started_at is None or rollout.ended_at is None:
        return ""
    return age(rollout.ended_at - rollout.started_at)
