"""What `decide` sees and says: one frozen observation in, one frozen decision out.

Built by `reconcile/observe.py`, consumed by `reconcile/execute.py` and `status.py`. Times are seconds since 1970 by the
clock of the API server (`Observation.now`) or of Prometheus (everything that a look carries); never the operator's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.capacity import ArtifactState, Capacity, Gate
from dspy_operator.rollout.judging import Look as JudgedLook
from dspy_operator.rollout.judging import RolloutConfig, Verdict
from dspy_operator.rollout.strategy import Preview, Routing


class Phase(StrEnum):
    """Where an attempt is; the last four are its ends."""

    PREPARING = "Preparing"
    REGRESSION = "Regression"
    STEPPING = "Stepping"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    ROLLING_BACK = "RollingBack"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"

    @property
    def is_end(self) -> bool:
        """Whether the attempt is over and only its deployment's pointer has to go."""
        return self in ENDS


ENDS = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED})


@dataclass(frozen=True)
class Program:
    """What a revision is: one artifact on one workload.

    `workload` names the pods: what their Deployment is called after and what they are labelled with. For a revision
    that is placed (stable, both sides of an attempt, a share of the table) these are the pods that it lives in, which
    with `isolation: Pod` are called after the revision.
    """

    revision: str
    workload: str
    sha256: str
    module: str


# --- D: the deployment's durable record ---------------------------------------------------------------------


@dataclass(frozen=True)
class Stable:
    """The revision that users trust; `promoted_at` is empty until its first pod was ready.

    `workload`: the pods that it lives in; empty: those called after the workload of its ControllerRevision.
    """

    revision: str
    sha256: str
    promoted_at: str = ""
    workload: str = ""


@dataclass(frozen=True)
class Rejected:
    """A revision that gets no traffic until `retry`, or until another one was promoted; the rest is for people."""

    revision: str
    reason: str
    at: str
    sha256: str = ""
    message: str = ""


@dataclass(frozen=True)
class Pointer:
    """Which attempt is open. `source` is the spec's revision at the opening: the spec may change afterwards."""

    revision: str
    source: str
    attempt: int
    rollout: str
    rollout_uid: str


Handled = Mapping[Command, tuple[str, ...]]
"""The nonces that were acted upon, the newest last, at most 16 of each command."""


@dataclass(frozen=True)
class DeploymentRecord:
    """The part of DSPyDeployment.status that decisions rest on; all else there is display."""

    stable: Stable | None = None
    rejected: tuple[Rejected, ...] = ()
    pointer: Pointer | None = None
    handled: Handled = field(default_factory=dict)

    def is_rejected(self, revision: str) -> bool:
        """Whether the revision is inert."""
        return any(entry.revision == revision for entry in self.rejected)


# --- R: one attempt's durable record ------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One line of an attempt's history: what was decided, when, with which numbers."""

    at: float
    number: int
    phase: str
    step: int
    weight: int
    reason: str
    message: str


@dataclass(frozen=True)
class RolloutRecord:
    """The part of DSPyRollout.status that decisions rest on.

    `step` counts from 1, 0 before the first. `effective_at`: when its weight took effect in every ready pod (None: not
    yet), `awaiting`: only a person's `promote` is missing, `held`: a person paused it, `noticed`: what people were told
    in it. `weight` is what the table must give; `number` counts decisions and is stamped on the table of each.
    """

    phase: Phase = Phase.PREPARING
    step: int = 0
    outcome: Phase | None = None
    reason: Reason | str = Reason.PREPARING
    message: str = ""
    number: int = 0
    epoch: int = 0
    started_at: float | None = None
    effective_at: float | None = None
    awaiting: bool = False
    held: bool = False
    weight: int = 0
    handled: Handled = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    analysis: Analysis | None = None
    noticed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The frozen strategy of one attempt, defaults filled in.

    `series` and `sources` by metric: a Ratio's counter, and which scores the user wants (`Auto`, `Function`, …).
    `gate_deadline`: seconds in which the regression gate must have said something; None: there is no gate.
    `routing` is about a canary with pods of its own; `preview` makes it blue-green.
    """

    weights: tuple[int, ...]
    manual: tuple[bool, ...]
    bake: float
    ready_deadline: float
    config: RolloutConfig
    series: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    gate_deadline: float | None = None
    routing: Routing = field(default_factory=Routing)
    preview: Preview | None = None


@dataclass(frozen=True)
class Rollout:
    """R as it was read: identity and plan never change, the record does. `fast` skips steps and analysis."""

    name: str
    uid: str
    origin: Program
    to: Program
    fast: bool
    plan: Plan
    record: RolloutRecord
    created_at: float
    known: bool = True
    """False: written by another version of the operator, in a phase or with a plan that this one does not know."""

    @property
    def has_own_pods(self) -> bool:
        """Whether the canary answers from pods of its own; else it shares stable's."""
        return self.to.workload != self.origin.workload

    @property
    def is_previewed(self) -> bool:
        """Whether a blue-green attempt shows its canary, at weight 0."""
        return self.record.phase is Phase.STEPPING and self.record.step == 0


# --- T: the split -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """One revision's place in the routing table: its slot and its percent of the traffic."""

    program: Program
    slot: int
    weight: int


@dataclass(frozen=True)
class Split:
    """The routing table as decisions see it: stable, perhaps a canary, perhaps pods of a workload that is going."""

    stable: Share
    canary: Share | None = None
    leaving: tuple[Share, ...] = ()

    @property
    def weight(self) -> int:
        """The canary's percent."""
        return self.canary.weight if self.canary else 0

    @property
    def shares(self) -> tuple[Share, ...]:
        """All places."""
        return (self.stable, *((self.canary,) if self.canary else ()), *self.leaving)

    def find_slot(self, revision: str) -> int | None:
        """The slot of a revision that the table names."""
        return next((s.slot for s in self.shares if s.program.revision == revision), None)


@dataclass(frozen=True)
class Table:
    """T as it was read.

    `intact`: what it holds, and what routes by it, is what its split says (nobody edited it by hand).
    """

    split: Split
    generation: int
    rollout: str
    number: int
    epoch: int
    intact: bool = True


@dataclass(frozen=True)
class Confirmation:
    """How far the split has reached the pods, and what routes to them.

    `at`: when the last ready pod was seen to use the table, and a gateway or Service to follow it; None: not yet.
    `presumed`: Prometheus could not say, but the pods were told long ago: enough to free capacity, never for analysis.
    `refreshed`: each carries the annotation. `message`: what besides the pods is waited for; `is_settling`: only time.
    """

    at: float | None = None
    presumed: bool = False
    refreshed: bool = True
    message: str = ""
    is_settling: bool = False


# --- what the user asks for ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """What the spec asks for, and whether its artifact is there.

    `in_window`: promoted lately, so that going back to it needs no trial. `missing_long`: the artifact is overdue.
    `is_gated`: even as the first revision it must reach `regression.minScore`. `unreachable`: which weight the numbers
    of pods cannot come near, and what would help.
    """

    program: Program
    artifact: ArtifactState = ArtifactState.READY
    message: str = ""
    in_window: bool = False
    missing_long: bool = False
    is_gated: bool = False
    unreachable: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why the spec cannot be carried out: reason and a sentence that names the field."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Order:
    """A command that a person gave and nobody has handled yet."""

    command: Command
    nonce: str
    at: float
    argument: str = ""


@dataclass(frozen=True)
class Past:
    """One attempt that is over, or that the deployment's record has lost: then `ended_at` is its beginning."""

    name: str
    origin: str
    to: str
    phase: Phase
    ended_at: float
    fast: bool = False


@dataclass(frozen=True)
class Stock:
    """Attempts (`unfinished`: open, or lost with a status), `copies` of programs and code, `digests` by revision."""

    attempts: tuple[Past, ...] = ()
    unfinished: tuple[Past, ...] = ()
    copies: frozenset[str] = frozenset()
    digests: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    limit: int = 10
    window: int = 3


@dataclass(frozen=True)
class Unmeasured:
    """Why there is no look: neither good nor bad."""

    reason: str
    message: str


@dataclass(frozen=True)
class Judging:
    """The test's memory before this pass and the look to judge, if there is one.

    `analysis` is None until stable's reference was read. `verdict` is what `decide` makes of the look first;
    `last` is the newest verdict of this step, for what people read in a pass without a look.
    """

    analysis: Analysis | None = None
    look: JudgedLook | Unmeasured | None = None
    verdict: Verdict | None = None
    last: Verdict | None = None


@dataclass(frozen=True)
class Observation:
    """The world, read once. Nothing else enters a decision."""

    now: float
    epoch: int
    name: str
    deleting: bool = False
    target: Target | Refusal | None = None
    queue: bool = False
    isolated: bool = False
    """`traffic.isolation: Pod`: a canary never shares stable's pods."""
    spec_paused: bool = False
    record: DeploymentRecord = field(default_factory=DeploymentRecord)
    rollout: Rollout | None = None
    orphans: tuple[str, ...] = ()
    """Attempts without a pointer that nobody will continue: left by a crash in an opening, or by a lost status."""
    pending: Rollout | None = None
    """The attempt that an opening has created and not yet pointed to."""
    revisions: Mapping[str, Program] = field(default_factory=dict)
    """What each ControllerRevision of this deployment says its revision is."""
    restorable: Mapping[str, Program] = field(default_factory=dict)
    """Revisions in use whose ControllerRevision is gone, and what it said: the spec or another of its workload tell."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """The highest attempt number of each revision so far."""
    previous: tuple[str, ...] = ()
    """Promoted revisions other than stable, the newest first: where `undo` goes."""
    stock: Stock = field(default_factory=Stock)
    table: Table | None = None
    confirmation: Confirmation = field(default_factory=Confirmation)
    capacity: Capacity = field(default_factory=Capacity)
    gate: Gate = field(default_factory=Gate)
    orders: tuple[Order, ...] = ()
    judging: Judging = field(default_factory=Judging)
    checkpoint_due: bool = False
    p95: Mapping[str, float] = field(default_factory=dict)
    prometheus_now: float | None = None
    """`p95` (seconds by revision) is for people; `prometheus_now` is `now` by the clock of looks and confirmations."""
