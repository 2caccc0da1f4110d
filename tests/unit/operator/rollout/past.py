"""What the attempts in a `World` say of the past: half-open ones, lost ones, those that are over.

Used by `World.observe`, as `reconcile/history.py` is by the real one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.unit.operator.rollout.plans import build_program

from dspy_operator.api.names import program_name
from dspy_operator.rollout.model import Past, Phase, Program, Rollout, RolloutRecord, Stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.operator.rollout.world import World

STRAY_AFTER = 600.0


def list_unbegun(world: World) -> list[Rollout]:
    pointed = world.find_rollout()
    found = [r for r in world.rollouts.values() if r.record == RolloutRecord() and r is not pointed]
    return found[::-1]


def list_strays(world: World) -> list[Rollout]:
    return [r for r in list_unfinished(world) if world.now - r.created_at >= STRAY_AFTER]


def list_unfinished(world: World) -> list[Rollout]:
    """Begun, without an end and without a pointer."""
    begun = [r for r in world.rollouts.values() if r.record != RolloutRecord()]
    return [r for r in begun if not r.record.phase.is_end and r is not world.find_rollout()]


def count_attempts(world: World) -> dict[str, int]:
    counted: dict[str, int] = {}
    for name, rollout in world.rollouts.items():
        number = int(name.rpartition("-")[2])
        counted[rollout.to.revision] = max(number, counted.get(rollout.to.revision, 0))
    return counted


def list_ended(world: World) -> list[Rollout]:
    ended = [r for r in world.rollouts.values() if r.record.phase.is_end]
    return sorted(ended, key=lambda r: world.ended.get(r.name, 0.0), reverse=True)


def list_previous(world: World) -> tuple[str, ...]:
    promoted = [r for r in list_ended(world) if r.record.phase is Phase.PROMOTED]
    seen = dict.fromkeys(p.revision for r in promoted for p in (r.to, r.origin))
    stable = world.deployment.stable.revision if world.deployment.stable else ""
    return tuple(revision for revision in seen if revision != stable)


def list_restorable(world: World) -> Iterator[tuple[str, Program]]:
    """What is in use and has no ControllerRevision, where the spec or another revision has its workload."""
    stable, rollout = world.deployment.stable, world.find_rollout()
    told = [p for p in (*world.revisions.values(), world.target) if isinstance(p, Program)]
    used = {stable.revision: stable.sha256} if stable else {}
    used |= {p.revision: p.sha256 for p in (rollout.origin, rollout.to)} if rollout else {}
    for revision, sha256 in used.items():
        alike = (build_program(sha256[0], one.workload) for one in told)
        found = next((program for program in alike if program.revision == revision), None)
        if found is not None and revision not in world.revisions:
            yield revision, found


def build_stock(world: World) -> Stock:
    return Stock(
        attempts=tuple(
            Past(
                r.name, r.origin.revision, r.to.revision, r.record.phase, world.ended.get(r.name, 0.0), r.fast
            )
            for r in list_ended(world)
        ),
        unfinished=tuple(
            Past(r.name, r.origin.revision, r.to.revision, r.record.phase, r.created_at)
            for r in list_unfinished(world)
        ),
        copies=frozenset(program_name("triage", sha) for sha in world.archived),
        digests={r: (program.sha256, "") for r, program in world.revisions.items()},
        limit=world.limit,
        window=1,
    )
