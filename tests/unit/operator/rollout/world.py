"""A tiny world that the pure core lives in: records, routing table, slots, pods, a Prometheus, users, time.

No Kubernetes: `observe` builds the Observation that `reconcile/observe.py` would, a pass applies the record first,
then the action. Times are seconds since the story began.
"""

from dataclasses import dataclass, field, replace

from tests.unit.operator.rollout.effects import act
from tests.unit.operator.rollout.judging import build_judging, prepare_test
from tests.unit.operator.rollout.past import (
    build_stock,
    count_attempts,
    list_previous,
    list_restorable,
    list_strays,
    list_unbegun,
)
from tests.unit.operator.rollout.plans import build_plan, build_program
from tests.unit.operator.rollout.runs import Runs

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.reconcile.commands import list_orders
from dspy_operator.rollout.actions import Decision
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.capacity import ArtifactState, Capacity, Load, LoadState, Own
from dspy_operator.rollout.clock import format_exact
from dspy_operator.rollout.decide import decide
from dspy_operator.rollout.model import (
    Confirmation,
    DeploymentRecord,
    Observation,
    Phase,
    Plan,
    Program,
    Refusal,
    Rollout,
    Split,
    Stock,
    Table,
    Target,
)
from dspy_operator.rollout.sizing import find_sizes
from dspy_operator.rollout.world import pick_stable

DAWN = 1_800_000_000.0
"""When every story begins, seconds since 1970."""
CHECKPOINT = 60.0
PRESUMED_AFTER = 120.0


@dataclass
class World:
    """Everything that lasts is a field; `forget` drops what a killed operator loses."""

    now: float = DAWN
    skew: float = 0.0
    """Seconds by which Prometheus' clock is ahead of the API server's."""
    plan: Plan = field(default_factory=build_plan)
    # what the user wants
    target: Program | Refusal = field(default_factory=lambda: build_program("a"))
    artifacts: dict[str, ArtifactState] = field(default_factory=dict)
    paused: bool = False
    queue: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    deleting: bool = False
    # what the cluster holds
    deployment: DeploymentRecord = field(default_factory=DeploymentRecord)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    table: Table | None = None
    slots: list[str] = field(default_factory=lambda: ["", "", ""])
    archived: set[str] = field(default_factory=set)
    revisions: dict[str, Program] = field(default_factory=dict)
    drifted: set[str] = field(default_factory=set)
    workloads: set[str] = field(default_factory=set)
    generation: int = 0
    # pods, Prometheus, users
    ready: int = 2
    denied: str = ""
    broken_workloads: set[str] = field(default_factory=set)
    pods: dict[str, int] = field(default_factory=dict)
    """Pods of the workloads of an attempt with own pods, as they were repaired last."""
    denied_own: str = ""
    most_own: int = 1000
    is_coming_up: bool = False
    followed: int | None = None
    """The last generation of the table that the gateway follows, when its controller is gone since."""
    isolated: bool = False
    unreachable: str = ""
    down_since: float | None = None
    lag: float = 0.0
    told: tuple[int, float] = (0, 0.0)
    mounted: Split | None = None
    served: set[str] = field(default_factory=set)
    refused: dict[str, tuple[Reason, str]] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)
    prometheus: bool = True
    has_reference: bool = True
    scores: dict[str, float] = field(default_factory=dict)
    requests: float = 100.0
    coverage: dict[str, float] = field(default_factory=dict)
    """Per revision, the part of its answers that are scored."""
    runs: Runs = field(default_factory=Runs)
    is_gated: bool = False
    # the operator
    epoch: int = 1
    test: Analysis | None = None
    test_of: str = ""
    checkpoint_at: float = 0.0
    uids: int = 0
    limit: int = 10

    # --- what the operator does ------------------------------------------------------------------------------

    def make_pass(self, *, kill: bool = False) -> tuple[Observation, Decision]:
        """Observe, decide, record, act. `kill`: dead after the record, before the effect that belongs to it."""
        seen = self.observe()
        decision = decide(seen)
        self._record(decision)
        dies = kill and (decision.deployment is not None or decision.rollout is not None)
        if decision.action is not None and not dies:
            act(self, decision.action)
        if decision.analysis is not None:
            self.test = decision.analysis
        if kill:
            self.forget()
        return seen, decision

    def forget(self) -> None:
        """A new process: only what the cluster and Prometheus hold is left."""
        self.test, self.test_of, self.checkpoint_at = None, "", 0.0

    def observe(self) -> Observation:
        if self.deleting:
            return Observation(self.now, self.epoch, "triage", deleting=True)
        rollout = self.find_rollout()
        prepare_test(self, rollout)
        unbegun, strays = list_unbegun(self), list_strays(self)
        previous = list_previous(self)
        has_history = rollout is None or rollout.record.phase is Phase.PREPARING
        return Observation(
            now=self.now,
            prometheus_now=self.now + self.skew,
            epoch=self.epoch,
            name="triage",
            target=self._build_target(previous if has_history else ()),
            queue=self.queue,
            isolated=self.isolated,
            spec_paused=self.paused,
            record=self.deployment,
            rollout=rollout,
            orphans=tuple(r.name for r in (*unbegun[1:], *strays)),
            pending=unbegun[0] if unbegun else None,
            revisions=dict(self.revisions),
            restorable=dict(list_restorable(self)),
            attempts=count_attempts(self) if has_history else {},
            previous=previous if has_history else (),
            stock=build_stock(self) if has_history else Stock(),
            table=self.table,
            confirmation=self.build_confirmation(),
            capacity=self._build_capacity(rollout),
            gate=self.runs.observe(self.now, self.deployment, rollout, self._find_target()),
            orders=list_orders(self.annotations, self.deployment, rollout),
            judging=build_judging(self, rollout),
            checkpoint_due=rollout is not None and self.now - self.checkpoint_at >= CHECKPOINT,
        )

    def _record(self, decision: Decision) -> None:
        assert decision.deployment is None or decision.rollout is None, "two records in one pass"
        if decision.deployment is not None:
            self.deployment = decision.deployment
        rollout = self.find_rollout()
        if decision.rollout is not None and rollout is not None:
            self.rollouts[rollout.name] = replace(rollout, record=decision.rollout)
            self.checkpoint_at = self.now
            if decision.rollout.phase.is_end:
                self.ended[rollout.name] = self.now

    # --- what there is to see --------------------------------------------------------------------------------

    def find_rollout(self) -> Rollout | None:
        """The attempt that the pointer names."""
        pointer = self.deployment.pointer
        found = self.rollouts.get(pointer.rollout) if pointer else None
        return found if found and pointer and found.uid == pointer.rollout_uid else None

    def list_available(self) -> set[str]:
        """Digests of the bytes that can be had from somewhere."""
        offered = set()
        if isinstance(self.target, Program) and self._get_artifact(self.target) is ArtifactState.READY:
            offered.add(self.target.sha256)
        return self.archived | offered | set(filter(None, self.slots))

    def _get_artifact(self, program: Program) -> ArtifactState:
        return self.artifacts.get(program.revision, ArtifactState.READY)

    def _build_target(self, previous: tuple[str, ...]) -> Target | Refusal:
        if isinstance(self.target, Refusal):
            return self.target
        state = self._get_artifact(self.target)
        message = "" if state is ArtifactState.READY else f"ConfigMap of {self.target.revision}: {state}"
        in_window = self.target.revision in previous[:3]
        return Target(
            self.target,
            state,
            message,
            in_window=in_window,
            is_gated=self.is_gated,
            unreachable=self.unreachable,
        )

    def _find_target(self) -> Program | None:
        return self.target if isinstance(self.target, Program) else None

    def count_ready(self) -> int:
        """Ready pods of stable's workload: the pods of one are ready once they have had its program."""
        program = self._find_stable()
        if program is None or program.workload in self.broken_workloads:
            return 0
        if self._is_loaded(program):
            self.served.add(program.workload)
        return self.ready if program.workload in self.served else 0

    def _find_stable(self) -> Program | None:
        return pick_stable(self.deployment, self.revisions.values())

    def find_sizes(self, rollout: Rollout | None) -> dict[str, int]:
        """What each Deployment of an attempt with own pods should have; without one there is nothing to say."""
        if rollout is None or not rollout.known or not rollout.has_own_pods:
            return {}
        return find_sizes(self.ready, rollout, self.table.split if self.table else None)

    def count_own(self, rollout: Rollout | None) -> int:
        """Ready pods of the canary's own."""
        if rollout is None or not rollout.has_own_pods or rollout.to.workload in self.broken_workloads:
            return 0
        return min(self.most_own, self.pods.get(rollout.to.workload, 0)) if self._is_loaded(rollout.to) else 0

    def _build_own(self, rollout: Rollout | None) -> Own:
        ready = self.count_own(rollout)
        self.is_coming_up = self.ready == 0 or (self.is_coming_up and not ready)
        obstacle = self._find_obstacle()
        return Own(ready, 0 if obstacle else ready, self.is_coming_up, self.denied_own, obstacle)

    def _find_obstacle(self) -> str:
        if self.followed is None or self.table is None or self.table.generation <= self.followed:
            return ""
        return "HTTPRoute triage: Gateway public has said nothing of it"

    def _is_reached(self) -> bool:
        """Whether the pods use the newest table, also when that was deleted since."""
        told = self.table is None or self.told[0] == self.table.generation
        return self.count_ready() > 0 and told and self.now >= self.told[1] + self.lag

    def build_confirmation(self) -> Confirmation:
        """How far the table has reached the pods, as `reconcile/pods.py` would see it."""
        if self.table is None:
            return Confirmation()
        told = self.told[0] == self.table.generation
        if self._find_obstacle():
            return Confirmation(refreshed=told, message=self._find_obstacle())
        weighted = [s.program for s in self.table.split.shares if s.weight]
        loaded = all(self._is_loaded(program) for program in weighted)
        if self.prometheus and self._is_reached() and loaded:
            return Confirmation(at=max(self.told[1] + self.lag, DAWN) + self.skew)
        blind = not self.prometheus and self.count_ready() > 0 and told
        return Confirmation(presumed=blind and self.now - self.told[1] >= PRESUMED_AFTER, refreshed=told)

    def _is_loaded(self, program: Program) -> bool:
        slot = self.mounted.find_slot(program.revision) if self.mounted else None
        has_bytes = slot is not None and self.slots[slot] == program.sha256
        return has_bytes and program.sha256 not in {*self.refused, *self.endless, *self.awaited}

    def _build_load(self, program: Program) -> Load:
        if not self.prometheus or not self.count_ready():
            return Load()
        is_known = self.mounted is not None and self.mounted.find_slot(program.revision) is not None
        if program.sha256 in self.refused and is_known:
            return Load(LoadState.REFUSED, *self.refused[program.sha256])
        if program.sha256 in self.awaited and is_known:
            return Load(LoadState.LOADING, Reason.WAITING_FOR_ARTIFACT, "Pod one waits for its bytes")
        return Load(
            LoadState.LOADED if self._is_loaded(program) and self._is_reached() else LoadState.LOADING
        )

    def _build_capacity(self, rollout: Rollout | None) -> Capacity:
        program = self._find_stable()
        programs = [
            p for p in (program, rollout.to if rollout else None, self.target) if isinstance(p, Program)
        ]
        return Capacity(
            ready_pods=self.count_ready(),
            desired_pods=self.ready,
            slots=tuple(self.slots),
            archived=frozenset(self.archived),
            available=frozenset(self.list_available()),
            drifted=tuple(sorted(self.drifted | self._list_unsized(rollout))),
            own=self._build_own(rollout),
            down_for=self._measure_down(),
            denied=self.denied,
            leaving=tuple(sorted(w for w in self.workloads if program and w != program.workload)),
            loads={p.revision: self._build_load(p) for p in programs},
        )

    def _list_unsized(self, rollout: Rollout | None) -> set[str]:
        sizes = self.find_sizes(rollout)
        return {"Deployment"} if any(self.pods.get(w) != size for w, size in sizes.items()) else set()

    def _measure_down(self) -> float:
        if self.count_ready():
            self.down_since = None
            return 0.0
        self.down_since = self.now if self.down_since is None else self.down_since
        return self.now - self.down_since

    # --- what people do --------------------------------------------------------------------------------------

    def order(self, command: Command, argument: str = "") -> str:
        """Annotate; returns the nonce."""
        nonce = format_exact(self.now)
        self.annotations[command.annotation] = f"{nonce}/{argument}" if argument else nonce
        return nonce
