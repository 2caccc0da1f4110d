"""Clusters and writes as numbers: each distinct decision, write and event is worked out once.

The checker's loops handle tuples of small integers only; that is what makes 10⁵ states a matter of seconds.
"""

from dataclasses import dataclass, field, replace

from tests.model import network, own_pods
from tests.model.cluster import Cluster, Ghost
from tests.model.decisions import DECISIONS
from tests.model.effects import Write, describe, land, list_writes
from tests.model.events import Bounds, Event, list_events
from tests.model.invariants import STATES, WRITES, find_first, note_acting
from tests.model.observing import complete, list_chances, read
from tests.model.settling import settle

from dspy_operator.rollout import decide as core

REFUSED = -1
"""The API server did not take a write."""


@dataclass(frozen=True)
class Choice:
    """One possible pass over a cluster: its writes (numbers), and what the environment chose."""

    label: str
    writes: tuple[int, ...]
    broken: str | None = None


@dataclass(frozen=True)
class Happening:
    """One possible event: the cluster (number) after it."""

    label: str
    after: int
    touched: tuple[str, ...]


@dataclass
class Space:
    """Everything that was worked out so far for one set of bounds."""

    bounds: Bounds
    clusters: list[Cluster] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    decided: int = 0
    _cluster_numbers: dict[Cluster, int] = field(default_factory=dict)
    _write_numbers: dict[Write, int] = field(default_factory=dict)
    _visible: dict[Cluster, int] = field(default_factory=dict)
    _visible_of: list[int] = field(default_factory=list)
    _choices: dict[tuple[int, int], tuple[Choice, ...]] = field(default_factory=dict)
    _landed: dict[tuple[int, int], tuple[int, str | None]] = field(default_factory=dict)
    _happenings: dict[tuple[int, str], tuple[Happening, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        network.forget()

    def number(self, cluster: Cluster) -> int:
        """The number of a cluster."""
        found = self._cluster_numbers.get(cluster)
        if found is None:
            found = self._cluster_numbers[cluster] = len(self.clusters)
            self.clusters.append(cluster)
            visible = replace(cluster, ghost=Ghost())
            self._visible_of.append(self._visible.setdefault(visible, len(self._visible)))
        return found

    def list_choices(self, cluster: int, epoch: int) -> tuple[Choice, ...]:
        """Every pass that an operator with this epoch may make: only those that write or break a rule."""
        key = (self._visible_of[cluster], epoch)
        found = self._choices.get(key)
        if found is None:
            found = self._choices[key] = self._decide(self.clusters[cluster], epoch)
        return found

    def _decide(self, cluster: Cluster, epoch: int) -> tuple[Choice, ...]:
        known: dict[tuple[tuple[int, ...], str | None], Choice] = {}
        base = read(cluster, epoch)
        for chance in list_chances(cluster):
            self.decided += 1
            seen = complete(base, cluster, chance)
            decision = core.decide(seen)
            broken = find_first(rule(seen, decision) for rule in (*DECISIONS, *own_pods.DECISIONS))
            writes = tuple(self._number_write(write) for write in list_writes(seen, decision, cluster))
            if writes or broken:
                known.setdefault((writes, broken), Choice(str(chance), writes, broken))
        return tuple(known.values())

    def _number_write(self, write: Write) -> int:
        found = self._write_numbers.get(write)
        if found is None:
            found = self._write_numbers[write] = len(self.writes)
            self.writes.append(write)
            self.targets.append(write.target if write.bound else "")
        return found

    def land(self, cluster: int, write: int) -> tuple[int, str | None]:
        """The cluster after a write (REFUSED if it is not taken) and the rule that this breaks."""
        found = self._landed.get((cluster, write))
        if found is None:
            found = self._landed[(cluster, write)] = self._land(self.clusters[cluster], self.writes[write])
        return found

    def _land(self, before: Cluster, write: Write) -> tuple[int, str | None]:
        after = land(before, write)
        if after is None:
            return REFUSED, None
        after = settle(after) if after.net is not None else after
        broken = find_first(rule(before, write, after) for rule in (*WRITES, *own_pods.WRITES))
        broken = broken or find_first(rule(after) for rule in (*STATES, *own_pods.STATES))
        return self.number(note_acting(before, write, after)), broken

    def list_happenings(self, cluster: int, kind: str) -> tuple[Happening, ...]:
        """What the environment may do of one kind."""
        found = self._happenings.get((cluster, kind))
        if found is None:
            events = list_events(self.clusters[cluster], self.bounds, kind)
            found = self._happenings[(cluster, kind)] = tuple(self._happen(event) for event in events)
        return found

    def _happen(self, event: Event) -> Happening:
        after = settle(event.after) if event.after.net is not None else event.after
        return Happening(event.label, self.number(after), event.touched)

    def describe(self, write: int) -> str:
        """One write, for people."""
        return describe(self.writes[write])
