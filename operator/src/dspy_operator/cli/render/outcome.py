"""What a command did, said once the operator has handled it. Pure."""

from dspy_operator.api.names import Command
from dspy_operator.cli.views.model import Deployment
from dspy_operator.cli.views.units import percent


def outcome_lines(command: Command, before: Deployment, after: Deployment) -> list[str]:
    """Say what changed between the two views, and what the operator says now."""
    changes = _changes(before, after)
    what = f": {', '.join(changes)}" if changes else ""
    message = after.rollout.message if after.rollout and after.rollout.message else after.message
    lines = [f"{after.name}: {command} was handled{what}", f"  {message}"]
    if command is Command.RESUME and after.paused_by_spec:
        lines.append("  spec.paused is true and wins: it stays paused until the manifest says otherwise.")
    return lines


def _changes(before: Deployment, after: Deployment) -> list[str]:
    old, new = before.rollout, after.rollout
    pairs = [
        ("", before.phase, after.phase),
        ("rollout ", old.phase if old else "none", new.phase if new else "none"),
        ("step ", str(old.step if old else 0), str(new.step if new else 0)),
        ("weight ", percent(_weight(before)), percent(_weight(after))),
    ]
    return [f"{what}{was} → {now}" for what, was, now in pairs if was != now]


def _weight(view: Deployment) -> int:
    return view.rollout.weight if view.rollout and view.rollout.is_open else view.weight
