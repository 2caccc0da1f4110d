"""One state of the cluster as the checker keeps it: frozen, hashable, without times, sentences and numbers of looks.

`observing.py` makes of it what `decide` sees; `effects.py` makes the next one of a write; `events.py` of all else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from tests.model.network import Net
from tests.model.programs import NOW, REPLICAS, SHARED, Means

from dspy_operator.api.names import Command
from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.clock import format_exact, format_time
from dspy_operator.rollout.model import DeploymentRecord, Handled, Phase, Rejected, RolloutRecord, Table

Use = tuple[str, int, str]
"""A revision with weight in some table that pods may still use, its slot there, and the workload of its pods."""


class Fixed(dict[Command, tuple[str, ...]]):
    """Handled nonces that can be hashed; nobody changes them."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict says that it has none
        return hash(frozenset(self.items()))


NOTHING_HANDLED = Fixed()
EMPTY_RECORD = RolloutRecord(handled=NOTHING_HANDLED)
NO_RECORD = DeploymentRecord(handled=NOTHING_HANDLED)


@dataclass(frozen=True)
class Given:
    """A command's annotation: the `number`th of this run, and the attempt (uid) that was open when it was given."""

    command: Command
    number: int
    attempt: str

    @property
    def nonce(self) -> str:
        """Later numbers are later times."""
        return get_nonce(self.number)


@cache
def get_nonce(number: int) -> str:
    """The RFC 3339 time of the `number`th command."""
    return format_exact(NOW - 1000 + number)


@dataclass(frozen=True)
class Attempt:
    """R: identity and record. Its plan is that of the check; `origin_pods` and `pods`: where both sides live."""

    name: str
    uid: str
    origin: str
    to: str
    fast: bool
    record: RolloutRecord = EMPTY_RECORD
    origin_pods: str = "w1"
    pods: str = "w1"

    @property
    def has_own_pods(self) -> bool:
        """Whether the canary does not share stable's."""
        return self.pods != self.origin_pods


@dataclass(frozen=True)
class Ghost:
    """What only the invariants know.

    `uses`: every revision with weight in any table since the last confirmed one. `lowered`: attempts (uid) that were
    rolled back or are over; `ends`: how, also when the record was lost since; `lost`: those whose record was wiped
    while the table showed it; `undone`: those that an `undo` opened. `granted`: the newest weight that was recorded,
    and for which attempt. `acted`: nonces that have done something. `routed`: percents of the canary's Service in any
    route since the last one that the gateway was seen to follow; `selected`: what any Service selected since
    all were seen to reach their pods.
    """

    uses: frozenset[Use] = frozenset()
    lowered: frozenset[str] = frozenset()
    ends: frozenset[tuple[str, Phase]] = frozenset()
    lost: frozenset[str] = frozenset()
    undone: frozenset[str] = frozenset()
    granted: tuple[str, int] = ("", 0)
    acted: frozenset[str] = frozenset()
    routed: frozenset[int] = frozenset()
    selected: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Cluster:
    """Spec, D, every R, V, T, C and pods.

    `spec` is the revision that is asked for, empty when the spec cannot be read. `ended` names attempts, the newest
    end first. `slots` and `archived` hold letters of programs. `confirmed`: the pods use T; `refreshed`: they were
    told; `refused`: programs that they cannot load. `net`: where canaries may have pods of their own, all that routes
    to pods; then it says which are ready, and `ready` means nothing.
    """

    spec: str = "a"
    queue: bool = False
    paused: bool = False
    deleted: bool = False
    given: tuple[Given, ...] = ()
    record: DeploymentRecord = NO_RECORD
    attempts: tuple[Attempt, ...] = ()
    ended: tuple[str, ...] = ()
    revisions: frozenset[str] = frozenset()
    archived: frozenset[str] = frozenset()
    slots: tuple[str, str, str] = ("", "", "")
    table: Table | None = None
    confirmed: bool = False
    refreshed: bool = True
    ready: bool = True
    refused: frozenset[str] = frozenset()
    means: Means = SHARED
    net: Net | None = None
    ghost: Ghost = Ghost()

    @property
    def attempt(self) -> Attempt | None:
        """R that the pointer names."""
        pointer = self.record.pointer
        return self.find_attempt(pointer.rollout_uid) if pointer else None

    @property
    def end(self) -> Phase | None:
        """How the attempt ended that the pointer names, as far as anybody ever wrote it down."""
        pointer = self.record.pointer
        ends = dict(self.ghost.ends)
        return ends.get(pointer.rollout_uid) if pointer else None

    @property
    def home(self) -> str:
        """The workload of stable's pods."""
        stable = self.record.stable
        return stable.workload if stable else ""

    @property
    def ready_pods(self) -> int:
        """How many of stable's pods are ready."""
        if self.net is not None:
            return self.net.count_ready(self.home)
        return REPLICAS if self.ready else 0

    def find_attempt(self, uid: str) -> Attempt | None:
        """R by its uid."""
        return next((attempt for attempt in self.attempts if attempt.uid == uid), None)


def drop_ghost(cluster: Cluster) -> Cluster:
    """What an operator can see."""
    return replace(cluster, ghost=Ghost())


def list_uses(table: Table | None) -> frozenset[Use]:
    """Who gets traffic by this table."""
    shares = table.split.shares if table else ()
    return frozenset(
        (share.program.revision, share.slot, share.program.workload) for share in shares if share.weight
    )


def normalise_deployment(record: DeploymentRecord) -> DeploymentRecord:
    """Without times and sentences."""
    stable = record.stable
    fixed = replace(stable, promoted_at=format_time(NOW) if stable.promoted_at else "") if stable else None
    rejected = sorted({entry.revision for entry in record.rejected})
    return replace(
        record,
        stable=fixed,
        rejected=tuple(Rejected(revision, "Rejected", format_time(NOW)) for revision in rejected),
        handled=_fix(record.handled),
    )


def normalise_rollout(record: RolloutRecord) -> RolloutRecord:
    """Without times, sentences and what was measured; `observing` writes its last line of history again."""
    return replace(
        record,
        reason=Reason.PREPARING,
        message="",
        started_at=None if record.started_at is None else NOW,
        effective_at=None if record.effective_at is None else NOW,
        handled=_fix(record.handled),
        entries=(),
        analysis=None,
    )


def _fix(handled: Handled) -> Fixed:
    return Fixed({command: tuple(nonces) for command, nonces in handled.items() if nonces})


def list_names(names: Iterable[str]) -> str:
    """For people."""
    return ",".join(sorted(names)) or "-"
