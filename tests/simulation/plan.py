"""One simulated rollout as data: what users do, what goes wrong, how good each program is.

It can be written as JSON, so that a failure is kept. Built from a seed here, by Hypothesis in `test_plans.py`, or read
from a file by `keeping.py`; carried out by `run.py`.
"""

import dataclasses
import json
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

LATEST = 60.0
"""Seconds after which a request that was believed lost may still land."""
STALLED = 40.0
"""Seconds for which a stopped process does nothing: longer than its Lease."""
TAKE_OVER = 20.0
"""Seconds until another process may hold the Lease of a dead one."""


class FaultKind(StrEnum):
    """What can go wrong. Each happens at random within its time, or once at its beginning."""

    # requests to the API server
    CONFLICT = "conflict"
    PRECONDITION = "precondition"
    BUSY = "busy"
    ERROR = "error"
    LOST = "lost"
    LATE = "late"
    SLOW = "slow"
    READS = "reads"
    DOWN = "down"
    # watches
    WATCH_LATE = "watch late"
    WATCH_DROP = "watch drop"
    WATCH_TWICE = "watch twice"
    COMPACTED = "compacted"
    # Prometheus
    BLIND = "blind"
    UNSCRAPED = "unscraped"
    NONSENSE = "nonsense"
    # pods
    CRASH = "crash"
    EVICT = "evict"
    DEAF = "deaf"
    SATURATED = "saturated"
    # the operator's process
    KILL = "kill"
    KILL_BEFORE_WRITE = "kill before write"
    KILL_AFTER_WRITE = "kill after write"
    STALL = "stall"


@dataclass(frozen=True)
class Fault:
    """From `at` to `until`, seconds since the beginning."""

    kind: FaultKind
    at: float
    until: float

    @property
    def healed_at(self) -> float:
        """When nothing of it is left: a dead process is replaced, what was under way has landed."""
        match self.kind:
            case FaultKind.LATE:
                return self.until + LATEST
            case FaultKind.STALL:
                return self.at + STALLED
            case FaultKind.KILL | FaultKind.KILL_BEFORE_WRITE | FaultKind.KILL_AFTER_WRITE:
                return self.until + TAKE_OVER
            case _:
                return self.until


class ActKind(StrEnum):
    """What people do."""

    APPLY = "apply"
    COMMAND = "command"
    REPEAT = "repeat"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SCALE = "scale"
    DELETE = "delete"
    REMOVE = "remove"


@dataclass(frozen=True)
class Act:
    """At `at` seconds: `argument` is the program's letter, the command, the kind of child, a number or a policy."""

    kind: ActKind
    at: float
    argument: str = ""


@dataclass(frozen=True)
class Plan:
    """`scores` is what users think of each program, `unfit` names the programs that pods refuse."""

    seed: int
    acts: tuple[Act, ...]
    faults: tuple[Fault, ...] = ()
    scores: tuple[tuple[str, float], ...] = (("a", 0.8), ("b", 0.8), ("c", 0.8))
    unfit: str = ""
    replicas: int = 2
    rate: float = 20.0
    standby: bool = False
    on_deadline: str = "Threshold"
    queue: bool = False
    brief: bool = False
    """One judged step instead of two, and half the time for it."""
    remote: bool = False
    """The artifacts lie in a bucket instead of in ConfigMaps."""
    gate: str = ""
    """What the runs of the regression gate for a program end with, a letter each, the last one for ever.

    `v`: a verdict; `n`: no model answered; `k`: killed without a word. Empty: there is no gate.
    """

    @property
    def min_duration(self) -> float:
        """Seconds that each step is watched at least."""
        return 5.0 if self.brief else 10.0

    @property
    def healed_at(self) -> float:
        """When everything works again and nobody asks for anything more."""
        return max([0.0, *(fault.healed_at for fault in self.faults), *(act.at for act in self.acts)])

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Self:
        acts = tuple(Act(ActKind(act["kind"]), act["at"], act["argument"]) for act in read["acts"])
        faults = tuple(Fault(FaultKind(one["kind"]), one["at"], one["until"]) for one in read["faults"])
        scores = tuple((letter, score) for letter, score in read["scores"])
        return cls(**{**read, "acts": acts, "faults": faults, "scores": scores})

    def to_text(self) -> str:
        return json.dumps(self.to_json(), indent=1)


COMMANDS = ("abort", "promote", "promote-full", "retry", "undo", "pause", "resume")
CHILDREN = ("routes", "slot", "deployment", "service", "budget", "revision", "rollout", "program")
POLICIES = ("Background", "Foreground", "Orphan")
BRIEF = 0.7
"""How many of all rollouts have one judged step: what can go wrong is the same, and it takes half the time."""
LONGEST = 20.0
"""Seconds of most faults: the operator's own patience is far longer."""


def build_plan(seed: int) -> Plan:
    """The rollout of one seed: a first revision, a second one, and a random part of all that can happen."""
    rng = random.Random(seed)
    brief = rng.random() < BRIEF
    last = 45.0 if brief else 80.0
    acts = [Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, 8.0, "b")]
    acts += [_draw_act(rng, last) for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3)))]
    faults = [_draw_fault(rng, last) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
    return Plan(
        seed=seed,
        acts=tuple(sorted(acts, key=lambda act: act.at)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        scores=(("a", 0.8), ("b", rng.choice((0.4, 0.6, 0.8, 0.8, 0.95))), ("c", rng.choice((0.5, 0.8)))),
        unfit=rng.choice(("", "", "", "", "", "b", "c")),
        replicas=rng.choice((1, 2, 2, 3)),
        standby=rng.random() < 0.25,
        on_deadline=rng.choice(("Threshold", "Threshold", "Hold", "Promote", "Rollback")),
        queue=rng.random() < 0.2,
        brief=brief,
    )


def _draw_act(rng: random.Random, last: float) -> Act:
    kind = rng.choice((ActKind.APPLY, ActKind.APPLY, ActKind.COMMAND, ActKind.COMMAND, *ActKind))
    at = round(rng.uniform(9.0, last), 2)
    match kind:
        case ActKind.APPLY:
            return Act(kind, at, rng.choice("abc"))
        case ActKind.COMMAND:
            return Act(kind, at, rng.choice(COMMANDS))
        case ActKind.DELETE:
            return Act(kind, at, rng.choice(CHILDREN))
        case ActKind.REMOVE:
            return Act(kind, at, rng.choice(POLICIES))
        case ActKind.SCALE:
            return Act(kind, at, str(rng.choice((1, 2, 3))))
        case _:
            return Act(kind, at)


def _draw_fault(rng: random.Random, last: float) -> Fault:
    at = round(rng.uniform(0.5, last), 2)
    return Fault(rng.choice(tuple(FaultKind)), at, round(at + rng.uniform(0.5, LONGEST), 2))
