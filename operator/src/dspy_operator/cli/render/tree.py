"""A DSPyDeployment as the tree that `kubectl dspy get NAME` keeps alive on a terminal. Pure."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from dspy_operator.cli.render.glyphs import (
    HEALTH_SIGN,
    HEALTH_STYLE,
    PHASE_STYLE,
    STEP_SIGN,
    STEP_STYLE,
    VERDICT_STYLE,
    bar,
)
from dspy_operator.cli.render.plain import (
    current_step,
    is_remarkable,
    name_step,
    pod_line,
    pods_text,
    samples_text,
)
from dspy_operator.cli.views.model import Arm, Condition, Deployment, Metric, Rollout, Step, StepState
from dspy_operator.cli.views.units import percent, since

WEIGHT_CELLS = 20
ARROW = Text(" ─ ", style="dim")


def deployment_tree(view: Deployment, now: float, *, wide: bool = False) -> Tree:
    """Draw one DSPyDeployment with its arms, its open or last attempt, its pods and what is wrong."""
    tree = Tree(_headline(view), guide_style="dim")
    rollout = view.rollout
    if view.stable:
        tree.add(_arm(view.stable, now, "green"))
    if view.canary:
        branch = tree.add(_arm(view.canary, now, "yellow"))
        if rollout and rollout.is_open:
            _add_rollout(branch, rollout, now)
    if rollout and not rollout.is_open:
        branch = tree.add(_ended(rollout, now))
        branch.add(_steps(rollout.steps))
        if rollout.metrics:
            branch.add(metrics_table(rollout.metrics))
    if view.pods:
        branch = tree.add(_pods(view))
        for pod in view.pods if wide else ():
            branch.add(Text(pod_line(pod, now).removeprefix("pod").strip()))
    for condition in view.conditions:
        if wide or is_remarkable(condition, view.message):
            tree.add(_condition(condition))
    return tree


def metrics_table(metrics: Sequence[Metric]) -> RenderableType:
    """Draw what each metric says: drop, samples, evidence toward 1.0, and a sentence."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim", padding=(0, 2, 0, 0))
    for heading in ("metric", "verdict", "worse by", "samples", "roll back", "promote"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "worse by" else "left")
    for metric in metrics:
        table.add_row(
            Text(metric.name, style="bold"),
            Text(metric.verdict, style=VERDICT_STYLE.get(metric.verdict, "")),
            metric.drop,
            samples_text(metric),
            _evidence(metric.rollback, "red"),
            _evidence(metric.promote, "green"),
        )
    notes = [Text(metric.message, style="dim") for metric in metrics if metric.message]
    return Group(table, *notes)


def _headline(view: Deployment) -> RenderableType:
    style = HEALTH_STYLE[view.health]
    title = Text.assemble(
        (f"{HEALTH_SIGN[view.health]} ", style),
        (view.name, "bold"),
        ("  " + view.phase, PHASE_STYLE.get(view.phase, style)),
        ("  " + view.namespace, "dim"),
    )
    return Group(title, Text(view.message))


def _arm(arm: Arm, now: float, style: str) -> Text:
    lasting = f", promoted {since(now, arm.since)} ago" if arm.since else ""
    lasting += f", pods of workload {arm.workload}" if arm.workload else ""
    return Text.assemble(
        (f"{arm.track:<8}", style),
        (arm.version, "bold"),
        ("  " + bar(arm.weight / 100, WEIGHT_CELLS), style),
        f" {percent(arm.weight):>5}",
        (f"  revision {arm.revision}{lasting}", "dim"),
    )


def _add_rollout(branch: Tree, rollout: Rollout, now: float) -> None:
    branch.add(_steps(rollout.steps, after=_tail(rollout)))
    lasting = f" for {since(now, rollout.step_started_at)}" if rollout.step_started_at else ""
    step = current_step(rollout)
    gate = f"; the gate: {step.gate}" if step and step.gate and rollout.phase == "Stepping" else ""
    branch.add(Text(f"{rollout.phase}{lasting}{gate}", style="dim"))
    if rollout.metrics:
        branch.add(metrics_table(rollout.metrics))


def _tail(rollout: Rollout) -> Text:
    """The phases that have no step of their own."""
    style = STEP_STYLE[StepState.CURRENT] if rollout.phase == "Baking" else "dim"
    return Text("bake", style=style)


def _steps(steps: Sequence[Step], after: Text | None = None) -> Text:
    signs = [Text(f"{STEP_SIGN[s.state]} {name_step(s)}", style=STEP_STYLE[s.state]) for s in steps]
    return ARROW.join([*signs, after] if after else signs)


def _ended(rollout: Rollout, now: float) -> Text:
    when = f" {since(now, rollout.ended_at)} ago" if rollout.ended_at else ""
    return Text.assemble(
        ("last    ", "dim"),
        (rollout.to_version, "bold"),
        (f"  {rollout.phase}{when}", PHASE_STYLE.get(rollout.phase, "")),
        f"  {rollout.reason}: {rollout.message}",
    )


def _pods(view: Deployment) -> Text:
    dots = [("●", "green") if pod.is_ready else ("○", "red") for pod in view.pods]
    return Text.assemble(("pods    ", "dim"), *dots, f"  {pods_text(view.pods)}")


def _condition(condition: Condition) -> Text:
    said = f"  {condition.reason}  {condition.message}"
    return Text.assemble((f"{condition.type}={condition.status}", "magenta"), said)


def _evidence(share: float | None, style: str) -> Text:
    if share is None:
        return Text("")
    return Text.assemble((bar(share), style), f" {share:.2f}")
