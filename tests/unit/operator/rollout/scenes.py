"""Where the tests of events and commands begin: an attempt to revision b in each phase.

Stable is a, the last promoted one before it z, and revision r is rejected.
"""

from dataclasses import replace

from tests.unit.operator.rollout.plans import build_program
from tests.unit.operator.rollout.telling import Teller, is_at
from tests.unit.operator.rollout.world import DAWN, World

from dspy_operator.rollout.model import Phase, Rejected, Rollout, RolloutRecord

HALF_AN_HOUR = 1800.0


def begin() -> Teller:
    """Revision a serves; z was promoted before it, r was rejected."""
    teller = Teller()
    teller.start("a")
    world = teller.world
    world.revisions["z"] = build_program("z")
    world.archived.add("z" * 64)
    done = RolloutRecord(phase=Phase.PROMOTED, outcome=Phase.PROMOTED)
    world.rollouts["a-1"] = Rollout(
        "a-1",
        "uid-0",
        build_program("z"),
        build_program("a"),
        fast=False,
        plan=world.plan,
        record=done,
        created_at=0,
    )
    world.deployment = replace(world.deployment, rejected=(Rejected("r", "EvidenceOfRegression", "then"),))
    return teller


def reach(phase: str) -> Teller:
    """An attempt to revision b in this phase, stopped right after the write that began it."""
    teller = begin()
    if phase == "Idle":
        return teller
    if phase in {"RollingBack", "RolledBack"}:
        teller.world.scores["b"] = 0.5
    teller.apply("b")
    wanted = Phase(phase)
    if wanted is Phase.PREPARING:
        teller.wait_until(lambda world: is_at(world, wanted) and world.rollouts["b-1"].record.number > 0)
    else:
        teller.wait_for(wanted, effective=wanted in {Phase.STEPPING, Phase.BAKING})
    return teller


def summarize(teller: Teller) -> str:
    world = teller.world
    attempts = [f"{name} {r.record.phase}" for name, r in world.rollouts.items() if name != "a-1"]
    stable = world.deployment.stable
    rejected = "".join(entry.revision for entry in world.deployment.rejected) or "nothing"
    return (
        f"{', '.join(attempts) or 'no attempt'}; {stable and stable.revision} is stable, {rejected} rejected"
    )


FORWARD = ("Preparing", "Stepping", "Promoting", "Baking")
PHASES = ("Idle", *FORWARD, "RollingBack", "RolledBack", "Promoted")
GOES_ON = "b-1 Promoted; b is stable, nothing rejected"
FAILED = "b-1 RolledBack; a is stable, rb rejected"
UNTOUCHED = "no attempt; a is stable, r rejected"
ABORTED = "b-1 Aborted; a is stable, rb rejected"
SUPERSEDED = "b-1 Superseded; a is stable, r rejected"
LOST = "no attempt; a is stable, rb rejected"


def list_phases(world: World) -> list[tuple[str, int, float]]:
    """Phase, step and time (seconds since dawn) of every decision about b-1."""
    return [(e.phase, e.step, e.at - DAWN) for e in world.rollouts["b-1"].record.entries]
