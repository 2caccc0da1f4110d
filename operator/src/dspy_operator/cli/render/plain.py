"""Views as plain lines, for pipes, logs and `grep`: no colour, one fact a line. Pure."""

from collections.abc import Sequence

from dspy_operator.api.names import ConditionType
from dspy_operator.cli.views.model import Arm, Condition, Deployment, Health, Metric, Pod, Rollout, Step
from dspy_operator.cli.views.units import change, clock, percent, since

HEALTH_WORDS = {Health.HEALTHY: "healthy", Health.IN_PROGRESS: "in progress", Health.DEGRADED: "degraded"}


def deployment_lines(view: Deployment, now: float, *, wide: bool = False) -> list[str]:
    """Draw one DSPyDeployment."""
    lines = [f"{view.namespace}/{view.name}  {view.phase}  {view.message}"]
    lines += [arm_line(arm, now) for arm in (view.stable, view.canary) if arm]
    if view.pods:
        lines.append(f"pods     {pods_text(view.pods)}")
    if wide:
        lines += [pod_line(pod, now) for pod in view.pods]
    if view.rollout:
        lines += rollout_lines(view.rollout, now)
    for condition in view.conditions:
        if wide or is_remarkable(condition, view.message):
            said = f"{condition.type}={condition.status}  {condition.reason}  {condition.message}"
            lines.append(f"condition  {said}")
    return [line.rstrip() for line in lines]


def rollout_lines(view: Rollout, now: float) -> list[str]:
    """Draw one attempt."""
    lines = [f"rollout  {rollout_text(view, now)}"]
    lines += [f"step     {s.number}  {name_step(s)}  {s.state}  {s.gate}" for s in view.steps]
    lines += [f"metric   {metric_text(metric)}" for metric in view.metrics]
    return [line.rstrip() for line in lines]


def rollout_text(view: Rollout, now: float) -> str:
    """Say in one line where an attempt is, or how it ended and why."""
    versions = f"{view.from_version} → {view.to_version}"
    if view.from_version == view.to_version:  # the same program on other pods
        versions = f"{view.to_version}  revision {view.from_revision} → {view.to_revision}"
    if view.is_open:
        lasting = f" for {since(now, view.step_started_at)}" if view.step_started_at else ""
        return f"{view.name}  {view.phase}{lasting}  {versions}"
    when = f" {since(now, view.ended_at)} ago" if view.ended_at else ""
    return f"{view.name}  {view.phase}{when}  {versions}  {view.reason}: {view.message}"


def arm_line(arm: Arm, now: float) -> str:
    """Say which program an arm runs and which share it gets."""
    lasting = f"  promoted {since(now, arm.since)} ago" if arm.since else ""
    lasting += f"  pods of workload {arm.workload}" if arm.workload else ""
    return f"{arm.track:<8} {arm.version}  {percent(arm.weight)}  revision {arm.revision}{lasting}"


def name_step(step: Step) -> str:
    """Say what a step gives the canary; the one before the first is a blue-green preview."""
    return percent(step.weight) if step.number else "preview"


def pods_text(pods: Sequence[Pod]) -> str:
    """Say how many pods are ready and whether any restarted."""
    ready = sum(pod.is_ready for pod in pods)
    restarts = sum(pod.restarts for pod in pods)
    return f"{ready} of {len(pods)} ready, {restarts} restarts"


def pod_line(pod: Pod, now: float) -> str:
    """Say how one pod is."""
    state = "ready" if pod.is_ready else "not ready"
    return f"pod      {pod.name}  {state}  {pod.restarts} restarts  {since(now, pod.started_at)}"


def metric_text(metric: Metric) -> str:
    """Say one metric's numbers; evidence 1.0 fires."""
    parts = [metric.name, metric.verdict, change(metric.drop), samples_text(metric)]
    if metric.rollback is not None and metric.promote is not None:
        parts.append(f"rollback {metric.rollback:.2f}  promote {metric.promote:.2f}")
    return "  ".join(part for part in [*parts, metric.message] if part)


def samples_text(metric: Metric) -> str:
    """Say how many samples both arms have, such as `214 | 1930 samples, about 400 needed`."""
    if metric.canary_samples is None:
        return ""
    stable = "" if metric.stable_samples is None else f" | {metric.stable_samples}"
    needed = f", about {metric.samples_needed} needed" if metric.samples_needed else ""
    return f"{metric.canary_samples}{stable} samples{needed}"


def status_line(view: Deployment) -> str:
    """Say a DSPyDeployment's health in one line."""
    return f"{view.namespace}/{view.name} is {HEALTH_WORDS[view.health]}: {view.message}"


def watch_line(view: Deployment, now: float) -> str:
    """Say what `get --watch` adds to a log when something changed."""
    step = current_step(view.rollout)
    at = f"step {step.number} of {len(view.rollout.steps)}, " if view.rollout and step else ""
    return f"{clock(now)}  {view.name}  {view.phase}  {at}{percent(view.weight)}  {view.message}"


def current_step(view: Rollout | None) -> Step | None:
    """Find the step that an open attempt is at."""
    if view is None or not view.is_open:
        return None
    return next((step for step in view.steps if step.number == view.step), None)


GOOD_WHEN_FALSE = frozenset({ConditionType.STALLED, ConditionType.PAUSED})
ALREADY_SAID = frozenset(
    {
        ConditionType.READY,
        ConditionType.RECONCILING,
        ConditionType.PROGRESSING,
        ConditionType.ANALYSIS_PASSED,
    }
)


def is_remarkable(condition: Condition, headline: str) -> bool:
    """Tell whether a condition adds something to what the headline, the steps and the metrics say."""
    if condition.type in ALREADY_SAID or condition.message == headline:
        return False
    return condition.status != ("False" if condition.type in GOOD_WHEN_FALSE else "True")
