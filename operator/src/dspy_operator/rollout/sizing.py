"""How many pods each workload has while a canary has pods of its own, and which weights these numbers can come near.

Pure arithmetic over the spec's replicas, the record and the split; `reconcile/children.py` makes it so.
"""

import math
from collections.abc import Iterable

from dspy_operator.api.choices import Approximation, Router
from dspy_operator.rollout.model import Phase, Rollout, Split
from dspy_operator.rollout.strategy import Routing

FULL = 100
NEAR = 1.5
"""How many times its weight a canary may get where replica counts only approximate it."""
MOST_REPLICAS = 1000
"""What `spec.replicas` may be at most."""


def get_canary_size(replicas: int, routing: Routing, weight: int) -> int:
    """Pods of the canary that `weight` (percent) needs, of `replicas` in all; the whole number at 100 %."""
    if replicas == 0:
        return 0
    if weight >= FULL:
        return replicas
    if routing.canary_replicas is not None:
        return routing.canary_replicas
    share = replicas * weight / FULL
    return max(1, math.ceil(share) if routing.router is Router.GATEWAY else round(share))


def get_stable_size(replicas: int, routing: Routing, weight: int) -> int:
    """Pods of stable while the canary has `weight`: never fewer than stable's own share needs.

    Behind a gateway all of them, so that a rollback finds them. Without one their number is the split; at 100 % all
    again, for the bake.
    """
    if routing.router is Router.GATEWAY or replicas == 0 or weight in {0, FULL}:
        return replicas
    canary, left = _divide(replicas, routing, weight)
    if routing.approximation is Approximation.ALLOW:
        return left
    return max(left, _get_least_stable(canary, weight))


def find_sizes(replicas: int, rollout: Rollout, split: Split | None) -> dict[str, int]:
    """Pods of each of the two workloads of an attempt with own pods; one that is given up keeps what it has.

    The canary grows before its weight does and stable shrinks after: the record says where the canary goes, the split
    what is in force.
    """
    in_force = split.weight if split else 0
    sizes = {rollout.origin.workload: get_stable_size(replicas, rollout.plan.routing, in_force)}
    if rollout.record.phase not in _GIVEN_UP:
        sizes[rollout.to.workload] = get_canary_size(replicas, rollout.plan.routing, get_next_weight(rollout))
    return sizes


def get_next_weight(rollout: Rollout) -> int:
    """The weight that the canary's pods must be able to carry now: its step's, before the first step that one's."""
    plan, record = rollout.plan, rollout.record
    if record.weight:
        return record.weight
    return FULL if rollout.fast or plan.preview else plan.weights[0]


def describe_unreachable(replicas: int, weights: Iterable[int], routing: Routing) -> str:
    """Which step replica counts cannot come within 1.5 times its weight of, and what would do; empty: all can."""
    if routing.router is Router.GATEWAY or routing.approximation is Approximation.ALLOW or replicas == 0:
        return ""
    for weight in (weight for weight in weights if weight < FULL):
        if not _is_near(replicas, routing, weight):
            return _describe(replicas, routing, weight)
    return ""


def _describe(replicas: int, routing: Routing, weight: int) -> str:
    canary, stable = _divide(replicas, routing, weight)
    given = round(canary / (canary + stable) * FULL)
    enough = next((n for n in range(replicas, MOST_REPLICAS + 1) if _is_near(n, routing, weight)), None)
    more = f"spec.replicas to {enough} or more, " if enough else ""
    return (
        f"{weight} % cannot be reached by the numbers of pods: {canary} of {canary + stable} is {given} %. "
        f"Set {more}spec.traffic.gateway to split by an HTTPRoute, spec.traffic.approximation to Allow to take "
        "what there is, or larger weights in spec.strategy.canary.steps"
    )


def _is_near(replicas: int, routing: Routing, weight: int) -> bool:
    canary, stable = _divide(replicas, routing, weight)
    return canary / (canary + stable) * FULL <= NEAR * weight


def _divide(replicas: int, routing: Routing, weight: int) -> tuple[int, int]:
    """Pods of canary and stable where their numbers are the split; stable keeps one."""
    canary = get_canary_size(replicas, routing, weight)
    return canary, max(1, replicas - canary)


def _get_least_stable(canary: int, weight: int) -> int:
    """The fewest pods beside which so many of the canary get no more than they may."""
    most = min(NEAR * weight, FULL)
    return math.ceil(canary * (FULL - most) / most)


_GIVEN_UP = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})
