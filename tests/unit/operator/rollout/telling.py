"""Stories: a world, a person who changes things, and one line for each decision.

A story is a function of a `Teller`; `test_stories.py` compares what it tells with `stories/<name>.txt`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from tests.unit.operator.rollout.invariants import Watch
from tests.unit.operator.rollout.plans import INTERVAL, build_program
from tests.unit.operator.rollout.world import DAWN, World

from dspy_operator.api.names import Command
from dspy_operator.rollout.actions import (
    Action,
    Archive,
    CreateRevision,
    CreateRollout,
    Decision,
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
from dspy_operator.rollout.model import Observation, Phase, Split

MOST_WRITES = 30
"""Reliability goal L1: calm within so many writes after the last event."""


@dataclass
class Teller:
    """Drives a world and writes down what happens. `kill` kills the operator at every pass."""

    world: World = field(default_factory=World)
    kill: bool = False
    lines: list[str] = field(default_factory=list)
    last: Decision | None = None

    def __post_init__(self) -> None:
        self._watch = Watch()
        self._said = ""
        self._writes = 0

    # --- what happens ----------------------------------------------------------------------------------------

    def say(self, sentence: str) -> None:
        """Something outside the operator happens."""
        self.lines.append(f"{self._clock()} -- {sentence}")
        self._writes = 0

    def apply(self, letter: str, workload: str = "w1") -> None:
        """The user applies a spec."""
        self.world.target = build_program(letter, workload)
        self.say(f"the spec asks for revision {self.world.target.revision}")

    def order(self, command: Command, argument: str = "") -> None:
        """The user gives a command."""
        self.world.order(command, argument)
        self.say(f"somebody says `{command}{' --to ' + argument if argument else ''}`")

    def start(self, letter: str = "a") -> None:
        """A first revision that serves; untold."""
        self.world.target = build_program(letter)
        self.settle()
        self.lines.clear()
        self.lines.append(f"{self._clock()} -- revision {letter} serves")

    # --- passes ----------------------------------------------------------------------------------------------

    def make_pass(self) -> Decision:
        """One pass, told and checked."""
        before = self.world.table
        seen, decision = self.world.make_pass(kill=self.kill)
        self._watch.check(seen, decision, before, self.world)
        self._tell(seen, decision)
        self.last = decision
        if is_write(decision):
            self._writes += 1
            assert self._writes <= MOST_WRITES, f"not calm after {MOST_WRITES} writes: {self.lines[-8:]}"
        return decision

    def settle(self) -> None:
        """Passes without any time between them, until nothing is written."""
        while is_write(self.make_pass()):
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass, with a pass whenever one is due."""
        end = self.world.now + seconds
        self.settle()
        while self.world.now < end:
            self._let_time_pass(end)
            self.settle()

    def wait_until(self, is_there: Callable[[World], bool], most: float = 7200.0) -> None:
        """Let time pass until something is so.

        Raises:
            AssertionError: it never was.
        """
        end = self.world.now + most
        while not is_there(self.world):
            assert self.world.now < end, f"waited in vain: {self.lines[-8:]}"
            if is_write(self.make_pass()):
                continue
            self._let_time_pass(end)

    def _let_time_pass(self, end: float) -> None:
        """To when the next pass is due: what waits is looked at again, readings come in."""
        wait = self.last.wait if self.last and self.last.wait else INTERVAL
        self.world.now = min(end, self.world.now + min(max(wait, 1.0), INTERVAL))
        self._writes = 0

    def wait_for(self, phase: Phase, step: int | None = None, *, effective: bool = False) -> None:
        """Let time pass until the open attempt is there."""
        self.wait_until(lambda world: is_at(world, phase, step, effective=effective))

    def wait_for_the_end(self, most: float = 7200.0) -> None:
        """Let time pass until an attempt that is open, or opens now, is over and nothing is written any more."""
        self.settle()
        self.wait_until(lambda world: world.deployment.pointer is None, most)
        self.settle()

    # --- telling ---------------------------------------------------------------------------------------------

    def _clock(self) -> str:
        return f"{self.world.now - DAWN:7.0f}s"

    def _tell(self, seen: Observation, decision: Decision) -> None:
        said = str(decision.reason)
        changed = decision.rollout is not None and is_told(seen, decision)
        if not changed and decision.action is None and decision.deployment is None and said == self._said:
            return
        self._said = said
        record = decision.rollout or (seen.rollout.record if seen.rollout else None)
        where = f"{record.phase} {record.step} {record.weight:>3} %" if record else "-"
        notices = "".join(f" !{notice.reason}" for notice in decision.notices)
        what = describe(decision)
        line = f"{self._clock()} {where:<20} {what:<22} {decision.reason}{notices}: {decision.message}"
        self.lines.append(line.rstrip(": "))


def is_write(decision: Decision) -> bool:
    return decision.deployment is not None or decision.rollout is not None or decision.action is not None


def is_told(seen: Observation, decision: Decision) -> bool:
    """Not a mere checkpoint of what was measured."""
    before = seen.rollout.record if seen.rollout else None
    if before is None or decision.rollout is None:
        return True
    measured: dict[str, Any] = {"analysis": None, "reason": "", "message": ""}
    return bool(replace(decision.rollout, **measured) != replace(before, **measured))


def is_at(world: World, phase: Phase, step: int | None = None, *, effective: bool = False) -> bool:
    rollout = world.find_rollout()
    if rollout is None or rollout.record.phase is not phase:
        return False
    if step is not None and rollout.record.step != step:
        return False
    return not effective or rollout.record.effective_at is not None


def describe(decision: Decision) -> str:
    """What is written, in order: `R+T 90/10`."""
    parts = ["D"] if decision.deployment is not None else ["R"] if decision.rollout is not None else []
    if decision.action is not None:
        parts.append(describe_action(decision.action))
    return "+".join(parts)


def describe_action(action: Action) -> str:  # noqa: C901, PLR0911, PLR0912  one arm for each action
    match action:
        case CreateRevision(program):
            return f"V {program.revision}"
        case CreateRollout(to, _, attempt, fast):
            return f"R {to.revision}-{attempt} is new{' (fast)' if fast else ''}"
        case DeleteRollout(name):
            return f"R {name} is deleted"
        case Archive(program):
            return f"copy of {program.revision}"
        case FillSlot(slot, program):
            return f"slot {slot} = {program.revision}"
        case SetSplit(split):
            return f"T {describe_split(split)}"
        case RefreshPods():
            return "pods are told"
        case RepairChildren():
            return "children are repaired"
        case RemoveWorkload(workload):
            return f"pods of {workload} go"
        case Restamp():
            return "T is stamped"
        case Prune():
            return "old things go"
        case RunGate(program, attempt):
            return f"gate {program.revision}-{attempt} runs"
        case RemoveGate():
            return "gate is removed"
        case _:
            assert_never(action)


def describe_split(split: Split) -> str:
    return ", ".join(f"{share.program.revision} {share.weight}" for share in split.shares)
