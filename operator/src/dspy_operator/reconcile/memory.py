"""What a reconciler remembers of a resource between passes: only what can be had again from the cluster.

A crash loses nothing: counters are cumulative, the test is replayed from its record, timers start again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dspy_operator.metrics.looks import Bases
from dspy_operator.metrics.readings import Reading
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import Verdict
from dspy_operator.rollout.model import Unmeasured
from dspy_operator.rollout.status import Telemetry

REFRESH_AT = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds after a table was written at which the pods are told.

Once is not enough: a kubelet that hears of the pod before it hears of the ConfigMap mounts the old one again, and on a
busy node one write in ten was seen only after the next time.
"""

_ADOPTED = 4
"""How often another process counts as having told them: the next time is 4 s later."""

Version = tuple[str, str]


def get_version(obj: Mapping[str, Any]) -> Version:
    """Which object, and which version of it."""
    return obj["metadata"].get("uid", ""), obj["metadata"].get("resourceVersion", "")


@dataclass(frozen=True)
class Given:
    """What a pass knows beside the snapshot: `now` (seconds) by the API server's clock, the other by Prometheus'."""

    now: float
    epoch: int
    serving_image: str
    checkpoint_interval: float
    stale_after: float
    reading: Reading | Unmeasured | None
    prometheus_now: float | None = None


@dataclass
class Refreshing:
    """How often the pods were told of one generation of the table. `since` in seconds by the API server's clock."""

    generation: int = 0
    since: float = 0.0
    times: int = 0

    def is_due(self, generation: int, now: float) -> bool:
        """Whether the pods must be told (again)."""
        if generation != self.generation:
            return True
        return self.times < len(REFRESH_AT) and now - self.since >= REFRESH_AT[self.times]

    def find_wait(self, now: float) -> float | None:
        """Seconds until the pods must be told again; None: often enough."""
        if self.times >= len(REFRESH_AT):
            return None
        return max(0.05, self.since + REFRESH_AT[self.times] - now)

    def adopt(self, generation: int, now: float) -> None:
        """All pods carry the annotation of a generation that this process has not told them of: another did.

        A process that has only just started hears from Prometheus first whether they must be told again.
        """
        if generation != self.generation:
            self.generation, self.since, self.times = generation, now, _ADOPTED

    def note(self, generation: int, now: float) -> None:
        """The pods were told: once is enough for all the times that have passed by now."""
        if generation != self.generation:
            self.generation, self.since, self.times = generation, now, 0
        self.times = max(self.times + 1, sum(now - self.since >= at for at in REFRESH_AT))


@dataclass
class Lasting:
    """For how long things have been seen as they are, by name; a restart begins anew, which only waits longer."""

    seen: dict[str, tuple[object, float]] = field(default_factory=dict)

    def measure(self, name: str, state: object, now: float) -> float:
        """Seconds since `name` was first seen in this state; None forgets it."""
        if state is None:
            self.seen.pop(name, None)
            return 0.0
        known, since = self.seen.get(name, (None, now))
        if known != state:
            since = now
            self.seen[name] = (state, since)
        return now - since


@dataclass
class Memory:
    """One resource.

    `analysis` is the newest, at most a checkpoint ahead of what is written; `saved` is what `saved_text` on the API
    server says. `bases` are those of the next look, `following` those after the look that is judged now. `dirty`:
    something happened in the cluster since `snapshot` was read, at `read_at`. `shown_reason` is what the status says,
    `conflicts` how often in a row somebody else wrote first. `p95` by revision in seconds; `sources` are the scores
    that this attempt reads. `telemetry` is None until this process has looked.
    """

    dirty: bool = True
    read_at: float = 0.0
    conflicts: int = 0
    shown_reason: str = ""
    snapshot: Snapshot | None = None
    attempt: str = ""
    analysis: Analysis | None = None
    verdict: Verdict | None = None
    saved: Analysis | None = None
    saved_text: str = ""
    bases: Bases | None = None
    following: Bases | None = None
    judged_at: float = 0.0
    checkpoint_at: float = 0.0
    refreshing: Refreshing = field(default_factory=Refreshing)
    lasting: Lasting = field(default_factory=Lasting)
    is_coming_up: bool = False
    routed_at: tuple[int, float | None] = (0, None)
    missing_since: float | None = None
    p95: Mapping[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    display: dict[str, Any] = field(default_factory=dict)
    display_at: float = 0.0
    verdict_at: float | None = None
    generation_floor: int = 0
    known: set[Version] = field(default_factory=set)
    """(uid, resourceVersion) of what the last pass has read or written: an event that tells of these tells nothing."""
    """`routed_at`: (generation of a table, since when what routes follows it; None: not yet)."""
    settled: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Deployments as the API server took them: (generation, what was applied); it writes some values its own way."""

    def forget_attempt(self, uid: str) -> None:
        """Another attempt is open, or none: its test and bases are its own."""
        if uid != self.attempt:
            self.attempt = uid
            self.forget_test()
            self.sources = {}
            self.checkpoint_at = 0.0

    def forget_test(self) -> None:
        """The record has gone another way than this process knows."""
        self.analysis = self.verdict = self.saved = self.bases = self.following = None
        self.saved_text = ""
        self.judged_at = 0.0
