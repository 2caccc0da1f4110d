"""`kubectl dspy explain`: the rule, the numbers and the decision of one attempt, in sentences. Pure."""

from collections.abc import Sequence

from dspy_operator.cli.render.glyphs import bar
from dspy_operator.cli.render.plain import current_step, rollout_text, samples_text
from dspy_operator.cli.views.model import Change, Metric, Rollout
from dspy_operator.cli.views.units import change, clock, percent, since

MODES = {
    "Evidence": "Evidence: a sequential test at confidence {confidence} decides each metric once either kind of"
    " evidence reaches 1.0; until then the rollout waits.",
    "Threshold": "Threshold: at every look the estimate itself is compared with what is allowed.",
}


def explain_lines(view: Rollout, now: float) -> list[str]:
    """Say where an attempt is, by which rule, what was measured, and what was decided when."""
    return [
        rollout_text(view, now),
        *_rule(view, now),
        *(line for metric in view.metrics for line in ("", *_metric(metric))),
        *_decision(view),
        *_history(view.changes),
    ]


def _rule(view: Rollout, now: float) -> list[str]:
    lines = []
    if view.mode:
        lines.append(MODES.get(view.mode, view.mode).format(confidence=view.confidence))
    if step := current_step(view):
        gate = f"; its gate: {step.gate}" if step.gate else ""
        effect = f"; in effect for {since(now, view.effective_at)}" if view.effective_at else ""
        lines.append(f"Step {step.number} of {len(view.steps)} at {percent(step.weight)}{gate}{effect}")
    return lines


def _metric(metric: Metric) -> list[str]:
    head = "  ".join(part for part in (metric.name, metric.verdict, metric.rule) if part)
    measured = "  ".join(part for part in (change(metric.drop), samples_text(metric)) if part)
    lines = [head] + ([f"  measured   {measured}"] if measured else [])
    for label, share in (("roll back", metric.rollback), ("promote", metric.promote)):
        if share is not None:
            lines.append(f"  {label:<9}  {bar(share, 20)} {share:.2f} of 1.0")
    return lines + ([f"  {metric.message}"] if metric.message else [])


def _decision(view: Rollout) -> list[str]:
    if view.decision is None:
        return []
    action, at = view.decision.action, clock(view.decision.at)
    return ["", f"Decision: {action} ({view.decision.reason}) {at}".rstrip(), f"  {view.decision.message}"]


def _history(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    return ["", "What happened:", *(_change(change) for change in changes)]


def _change(change: Change) -> str:
    where = f"{change.phase} {change.step}" if change.step else change.phase
    return f"  {clock(change.at)}  {where}  {percent(change.weight)}  {change.reason}: {change.message}"
