"""What an attempt is frozen with, and whether one that was left half open still fits."""

from typing import Any

import pytest
from tests.unit.operator.reconcile.objects import build_deployment, build_snapshot

from dspy_operator.api.rollout import RolloutSpec
from dspy_operator.api.spec import DeploymentSpec, parse_deployment
from dspy_operator.reconcile.opening import build_rollout, is_as_asked
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.actions import CreateRollout
from dspy_operator.rollout.model import Program

STEPS = [
    {"weight": 5, "minDuration": "90s", "minSamples": 10, "deadline": "2h", "approval": "Manual"},
    {"weight": 100},
]
METRICS = [
    {"name": "score", "type": "Score", "maxDrop": "2.50%", "min": "0.70", "source": "Judge"},
    {"name": "refusals", "type": "Ratio", "series": "triage_refusals_total", "maxIncreasePoints": "1"},
    {"name": "cost", "type": "CostPerRequest", "dryRun": True},
]
SPECS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a scoring function": {"scoring": {"function": "triage:score"}},
    "a strategy": {
        "strategy": {
            "canary": {"steps": STEPS, "bake": "60s", "analysis": {"interval": "60s", "metrics": METRICS}}
        }
    },
    "a header": {"traffic": {"userHeader": "X-User-Id"}},
}


def see(**spec: Any) -> Snapshot:
    deployment = build_deployment()
    deployment["spec"] |= spec
    return build_snapshot(deployment=deployment)


async def freeze(snapshot: Snapshot, *, feedback: bool) -> RolloutSpec:
    """As the API server gives it back."""
    a, b = (Program(letter * 10, "0a1b2c3d", letter * 64, "triage:Triage") for letter in "ab")

    async def has_feedback(_: Snapshot) -> bool:
        return feedback

    built = await build_rollout(CreateRollout(b, a, 1, fast=False), snapshot, has_feedback)
    return RolloutSpec.model_validate(built["spec"])


def get_spec(snapshot: Snapshot) -> DeploymentSpec:
    return parse_deployment(snapshot.deployment).spec


@pytest.mark.parametrize("feedback", [False, True])
@pytest.mark.parametrize("name", SPECS)
async def test_an_attempt_fits_the_spec_that_it_was_made_from(name: str, *, feedback: bool) -> None:
    snapshot = see(**SPECS[name])
    assert is_as_asked(await freeze(snapshot, feedback=feedback), get_spec(snapshot))


@pytest.mark.parametrize("now", SPECS)
@pytest.mark.parametrize("before", SPECS)
async def test_an_attempt_fits_no_other_spec(before: str, now: str) -> None:
    frozen = await freeze(see(**SPECS[before]), feedback=False)
    # Without a function it may be feedback that brought the score: that fits too.
    same = before == now or (before, now) == ("a scoring function", "nothing")
    assert is_as_asked(frozen, get_spec(see(**SPECS[now]))) is same
