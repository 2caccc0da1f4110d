"""The DSPyRollout of a new attempt: its spec holds the whole strategy, so that nothing later changes it."""

from collections.abc import Awaitable, Callable

from dspy_operator.api import names
from dspy_operator.api.defaults import (
    has_score_source,
    regression_with_defaults,
    strategy_with_defaults,
    traffic_with_defaults,
)
from dspy_operator.api.rollout import RolloutSpec
from dspy_operator.api.spec import DeploymentSpec
from dspy_operator.errors import Conflict
from dspy_operator.manifests.owner import Manifest, build_child
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.actions import CreateRollout
from dspy_operator.rollout.records import build_revision_ref


async def build_rollout(
    action: CreateRollout, snapshot: Snapshot, has_feedback_scores: Callable[[Snapshot], Awaitable[bool]]
) -> Manifest:
    """The object to create.

    Raises:
        Conflict: the spec cannot be read any more.
    """
    if snapshot.parsed is None:
        raise Conflict("the spec cannot be read any more")
    spec = snapshot.parsed.spec
    feedback = not has_score_source(spec) and await has_feedback_scores(snapshot)
    name = names.rollout_name(snapshot.owner.name, action.to.revision, action.attempt)
    rollout = build_child(snapshot.owner, (names.API_VERSION, names.ROLLOUT_KIND), name)
    rollout["spec"] = {
        "deployment": snapshot.owner.name,
        "attempt": action.attempt,
        "from": build_revision_ref(action.origin),
        "to": build_revision_ref(action.to),
        "fast": action.fast,
        "userHeader": _get_user_header(spec),
        "strategy": strategy_with_defaults(spec, feedback_scores=feedback).to_wire(),
    }
    if action.to.workload != action.origin.workload:
        rollout["spec"]["traffic"] = traffic_with_defaults(spec).to_wire()
    gate = regression_with_defaults(spec)
    if gate is not None:
        rollout["spec"]["regression"] = gate.to_wire()
    return rollout


def is_as_asked(frozen: RolloutSpec, spec: DeploymentSpec) -> bool:
    """Whether an attempt created now would have this strategy; which default metrics it gets may depend on scores."""
    strategies = [strategy_with_defaults(spec, feedback_scores=feedback) for feedback in (False, True)]
    same_header = (frozen.user_header or "") == _get_user_header(spec)
    same_gate = frozen.regression == regression_with_defaults(spec)
    same_traffic = frozen.traffic in {None, traffic_with_defaults(spec)}
    return (
        same_header
        and same_gate
        and same_traffic
        and frozen.strategy.to_wire() in [strategy.to_wire() for strategy in strategies]
    )


def _get_user_header(spec: DeploymentSpec) -> str:
    return (spec.traffic.user_header if spec.traffic else None) or ""
