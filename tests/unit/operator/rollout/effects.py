"""What an action changes in a `World`.

Used by `World.make_pass`, as `reconcile/execute.py` is by the real one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from tests.unit.operator.rollout.past import list_restorable

from dspy_operator.api.names import program_name
from dspy_operator.rollout.actions import (
    Action,
    Archive,
    CreateRevision,
    CreateRollout,
    DeleteRollout,
    FillSlot,
    Prune,
    RefreshPods,
    RemoveGate,
    RemoveWorkload,
    RepairChildren,
    Restamp,
    RunGate,
    SetSplit,
)
from dspy_operator.rollout.model import Rollout, RolloutRecord, Table

if TYPE_CHECKING:
    from tests.unit.operator.rollout.world import World


def act(world: World, action: Action) -> None:  # noqa: C901, PLR0912  one arm for each action
    match action:
        case CreateRevision(program):
            told = (world.target, *dict(list_restorable(world)).values())
            assert program in told, "only the spec, or another of its workload, says what a revision is"
            world.revisions[program.revision] = program
        case CreateRollout():
            _create_rollout(world, action)
        case DeleteRollout(name):
            del world.rollouts[name]
        case Archive(program):
            world.archived.add(program.sha256)
        case FillSlot(slot, program):
            assert program.sha256 in world.list_available(), "bytes out of nowhere"
            world.slots[slot] = program.sha256
        case SetSplit():
            _set_split(world, action)
        case RefreshPods():
            world.told = (world.table.generation if world.table else 0, world.now)
        case RepairChildren():
            world.drifted.clear()
            world.pods = world.find_sizes(world.find_rollout())
            world.workloads |= world.pods.keys()
        case RemoveWorkload(workload):
            world.workloads.remove(workload)
            world.served.discard(workload)
            world.pods.pop(workload, None)
        case Restamp():
            assert world.table is not None
            world.table = replace(world.table, epoch=world.epoch)
        case Prune(rollouts, copies, revisions):
            for name in rollouts:
                del world.rollouts[name]
            for revision in revisions:
                del world.revisions[revision]
            world.archived = {sha for sha in world.archived if program_name("triage", sha) not in copies}
        case RunGate() | RemoveGate():
            _change_runs(world, action)
        case _:
            assert_never(action)


def _set_split(world: World, action: SetSplit) -> None:
    world.generation += 1 if world.table else 1001
    world.table = Table(action.split, world.generation, action.rollout, action.number, world.epoch)
    world.told, world.mounted = (world.generation, world.now), action.split
    world.workloads.add(action.split.stable.program.workload)


def _change_runs(world: World, action: RunGate | RemoveGate) -> None:
    if isinstance(action, RemoveGate):
        del world.runs.jobs[action.job]
        return
    assert action.program.sha256 in world.archived, "a Job without a program"
    world.runs.start(action.program, action.attempt, world.now)


def _create_rollout(world: World, action: CreateRollout) -> None:
    world.uids += 1
    name = f"{action.to.revision}-{action.attempt}"
    assert name not in world.rollouts, f"attempt {name} exists"
    world.rollouts[name] = Rollout(
        name=name,
        uid=f"uid-{world.uids}",
        origin=action.origin,
        to=action.to,
        fast=action.fast,
        plan=world.plan,
        record=RolloutRecord(),
        created_at=world.now,
    )
