"""One simulated rollout as data: what users do, what goes wrong, how good each program is.

It can be written as JSON, so that a failure is kept. Built from a seed here, by Hypothesis in `test_plans.py`, or read
from a file by `keeping.py`; carried out by `run.py`.
"""

import dataclasses
import json
import random
from dataclasses import dataclass, replace
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
    # what routes to pods of the canary's own, and these pods
    CANARY_CRASH = "canary crash"
    UNREADY = "unready"
    UNPULLED = "unpulled"
    QUOTA = "quota"
    SILENT = "silent"
    ROUTE_EDITED = "route edited"
    ROUTE_DELETED = "route deleted"
    ROLE_EDITED = "role edited"


OWN = (
    FaultKind.CANARY_CRASH,
    FaultKind.UNREADY,
    FaultKind.UNPULLED,
    FaultKind.QUOTA,
    FaultKind.SILENT,
    FaultKind.ROUTE_EDITED,
    FaultKind.ROUTE_DELETED,
    FaultKind.ROLE_EDITED,
)
"""Faults that only matter where a canary has pods of its own; the plans of shared pods draw none of them."""
COMMON = tuple(kind for kind in FaultKind if kind not in OWN)


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
    """At `at` seconds: `argument` is the command, the kind of child, a number, a policy, or what is applied.

    That is the program's letter, and a digit where its pods are others too: `b2` is program b in pods of workload 2.
    """

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

    gateway: bool = False
    """An HTTPRoute splits between own pods; else the Service does, by its selector and the numbers of pods."""
    approximate: bool = True
    """Without a gateway: whether numbers of pods that miss the weight by far will do."""
    isolated: bool = False
    """Every revision has pods of its own."""
    preview: bool = False
    """Blue-green instead of steps."""
    stuck: str = ""
    """The digits of the workloads whose pods never get ready."""

    @property
    def has_own_pods(self) -> bool:
        """Whether the spec says how own pods are routed to."""
        return (
            self.gateway
            or self.isolated
            or self.preview
            or any(act.argument[1:2].isdigit() for act in self.acts)
        )

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
BEGINNING = 8.0
"""Seconds until the second revision is applied."""
LONGEST = 20.0
"""Seconds of most faults: the operator's own patience is far longer."""


def build_shared_plan(seed: int) -> Plan:
    """The rollout of one seed: a first revision, a second one, and a random part of all that can happen."""
    rng = random.Random(seed)
    brief = rng.random() < BRIEF
    last = 45.0 if brief else 80.0
    acts = [Act(ActKind.APPLY, 0.0, "a"), Act(ActKind.APPLY, BEGINNING, "b")]
    acts += [_draw_act(rng, last) for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3)))]
    faults = [_draw_fault(rng, last, COMMON) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4)))]
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


OWN_PODS = 20
"""Every how many seeds has canaries with pods of their own: what shared pods do is most of the protocol."""
EDITS = ("a", "a2", "b", "b1", "b2", "c", "c2")


def build_plan(seed: int) -> Plan:
    """The rollout of one seed; what only own pods need is drawn apart."""
    plan = build_shared_plan(seed)
    return build_own_plan(plan) if seed % OWN_PODS == OWN_PODS - 1 else plan


def build_own_plan(plan: Plan) -> Plan:
    """The same, where most edits ask for other pods too, and what routes to these has faults of its own."""
    rng = random.Random(f"own {plan.seed}")
    last = 45.0 if plan.brief else 80.0
    gateway = rng.random() < 0.5
    acts = [_draw_own_act(rng, act) for act in plan.acts]
    acts += [Act(ActKind.SCALE, round(rng.uniform(9.0, last), 2), rng.choice(SIZES))] * (rng.random() < 0.3)
    faults = [*plan.faults[:2], *(_draw_fault(rng, last, OWN) for _ in range(rng.choice((0, 1, 1, 2))))]
    return replace(
        plan,
        acts=tuple(sorted(acts, key=lambda act: act.at)),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        replicas=rng.choice((1, 2, 3)) if gateway else rng.choice((2, 4, 4, 5, 6, 10)),
        gateway=gateway,
        approximate=rng.random() < 0.8,
        isolated=rng.random() < 0.2,
        preview=rng.random() < 0.15,
        stuck=rng.choice(("", "", "", "", "", "2")),
    )


SIZES = ("0", "1", "2", "4", "6", "10")


def _draw_own_act(rng: random.Random, act: Act) -> Act:
    """An edit of any program and workload; the first two are those that the story begins with."""
    if act.kind is ActKind.SCALE:
        return replace(act, argument=rng.choice(SIZES))
    if act.kind is not ActKind.APPLY or act.at == 0.0:
        return act
    letter = act.argument if act.at == BEGINNING else rng.choice(EDITS)
    return replace(act, argument=rng.choice((letter, f"{letter[0]}1", f"{letter[0]}1", f"{letter[0]}2")))


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


def _draw_fault(rng: random.Random, last: float, kinds: tuple[FaultKind, ...]) -> Fault:
    at = round(rng.uniform(0.5, last), 2)
    return Fault(rng.choice(kinds), at, round(at + rng.uniform(0.5, LONGEST), 2))
