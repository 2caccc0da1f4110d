"""Breadth-first over every interleaving: passes, their writes one by one, crashes, take-overs, events.

A state is a cluster, the processes with the writes that they still have to send, and what may still happen. A process
reads everything at one instant; a write whose object was written since is dropped with all that follows it.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.model.cluster import Cluster
from tests.model.events import FREE, Bounds, Budget
from tests.model.space import REFUSED, Space

Process = tuple[int, tuple[int, ...]]
"""Epoch, and the numbers of the writes that are still to be sent."""
State = tuple[int, tuple[Process, ...], Budget]
"""Cluster, processes (the holder of the Lease first), what may still happen."""
Step = tuple[State, str]


TOLD = 4096
"""States between two tellings."""


@dataclass(frozen=True)
class Rules:
    """How processes behave; the defaults are the shipped ones.

    A write is refused when its object was written since the read, except to `unbound` kinds of objects. `old_runs`: a
    process that lost the Lease goes on making passes (the shipped one has at most one request under way).
    """

    unbound: tuple[str, ...] = ()
    old_runs: bool = False
    record_first: bool = True


SHIPPED = Rules()


@dataclass
class Result:
    """What a check found."""

    states: int = 0
    edges: int = 0
    clusters: int = 0
    decided: int = 0
    seconds: float = 0.0
    broken: str = ""
    trace: tuple[str, ...] = ()
    space: Space | None = None
    reached: list[tuple[int, int]] = field(default_factory=list)
    """Cluster (number) and epoch of the Lease's holder."""

    def list_reached(self) -> list[tuple[Cluster, int]]:
        """Every cluster that was reached, with the epoch of the Lease's holder."""
        clusters = self.space.clusters if self.space else []
        return [(clusters[number], epoch) for number, epoch in self.reached]

    @property
    def rule(self) -> str:
        """`S5` of the broken rule's sentence."""
        return self.broken.partition(":")[0]

    def __str__(self) -> str:
        """One line, and the trace of what is broken."""
        line = (
            f"{self.states:,} states, {self.edges:,} edges, {self.clusters:,} clusters, "
            f"{self.decided:,} decisions, {self.seconds:.1f} s of CPU"
        )
        if not self.broken:
            return line
        return "\n".join([line, f"BROKEN after {len(self.trace)} steps: {self.broken}", *self.trace])


class BrokenError(Exception):
    """A rule does not hold; the step that broke it."""

    def __init__(self, rule: str, label: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.label = label


class Checker:
    """One exhaustive check."""

    def __init__(self, start: Cluster, bounds: Bounds, rules: Rules = SHIPPED) -> None:
        self.space = Space(bounds)
        self._rules = rules
        self._parents: dict[State, Step | None] = {}
        self._start: State = (self.space.number(start), ((1, ()),), bounds.budget)

    def run(self, *, most: int = 10_000_000, progress: Callable[[int, int], None] | None = None) -> Result:
        """Look at every reachable state, `most` of them, until a rule breaks.

        `progress` hears now and then how many states were looked at and how many wait.
        """
        began, edges, broken, trace = time.process_time(), 0, "", []
        self._parents[self._start] = None
        queue, state = [self._start], self._start
        try:
            for looked, state in enumerate(queue):
                if progress and looked % TOLD == 0:
                    progress(looked, len(queue) - looked)
                for label, after in self._list_steps(state):
                    edges += 1
                    if after not in self._parents:
                        self._parents[after] = (state, label)
                        queue.append(after)
                if len(queue) > most:
                    break
        except BrokenError as error:
            broken, trace = error.rule, [*self._build_trace(state), error.label]
        space = self.space
        reached = sorted({(cluster, processes[0][0]) for cluster, processes, _ in self._parents})
        return Result(
            len(self._parents),
            edges,
            len(space.clusters),
            space.decided,
            time.process_time() - began,
            broken,
            tuple(trace),
            space,
            reached,
        )

    def _build_trace(self, state: State) -> list[str]:
        lines: list[str] = []
        step = self._parents[state]
        while step is not None:
            state, label = step
            lines.append(label)
            step = self._parents[state]
        return lines[::-1]

    def _list_steps(self, state: State) -> Iterator[tuple[str, State]]:
        _, processes, budget = state
        for index, (epoch, writes) in enumerate(processes):
            if writes:
                yield from self._send(state, index)
            elif index == 0 or self._rules.old_runs:
                yield from self._read(state, index, epoch)
        for kind, allowed in zip(Budget._fields, budget, strict=True):
            if allowed or kind == FREE:
                yield from self._happen(state, kind)
        if budget.takeovers:
            yield self._take_over(state)

    def _read(self, state: State, index: int, epoch: int) -> Iterator[tuple[str, State]]:
        cluster, processes, budget = state
        for choice in self.space.list_choices(cluster, epoch):
            writes = choice.writes if self._rules.record_first else choice.writes[::-1]
            label = f"operator {epoch} reads ({choice.label}) and wants: " + "; ".join(
                map(self.space.describe, writes)
            )
            if choice.broken:
                raise BrokenError(choice.broken, label)
            yield label, (cluster, _with(processes, index, (epoch, writes)), budget)

    def _send(self, state: State, index: int) -> Iterator[tuple[str, State]]:
        cluster, processes, budget = state
        epoch, (write, *rest) = processes[index]
        after, broken = self.space.land(cluster, write)
        label = f"operator {epoch} writes {self.space.describe(write)}"
        if broken:
            raise BrokenError(broken, label)
        if after == REFUSED:
            yield label + " (refused)", (cluster, _with(processes, index, (epoch, ())), budget)
            return
        others = _with(processes, index, (epoch, ()))
        if target := self.space.targets[write]:
            others = self._drop(others, (target,))
        left = tuple(rest) if index == 0 or self._rules.old_runs else ()
        yield label, (after, _with(others, index, (epoch, left)), budget)
        if left:
            yield label + ", and is killed", (after, others, budget)

    def _happen(self, state: State, kind: str) -> Iterator[tuple[str, State]]:
        _, processes, budget = state
        for happening in self.space.list_happenings(state[0], kind):
            left = budget if kind == FREE else budget._replace(**{kind: getattr(budget, kind) - 1})
            after = self._drop(processes, happening.touched) if happening.touched else processes
            yield happening.label, (happening.after, after, left)

    def _take_over(self, state: State) -> tuple[str, State]:
        cluster, processes, budget = state
        epoch = processes[0][0] + 1
        old = tuple(process for process in processes if process[1] or self._rules.old_runs)
        label = f"operator {epoch} takes over"
        return label, (cluster, ((epoch, ()), *old), budget._replace(takeovers=budget.takeovers - 1))

    def _drop(self, processes: tuple[Process, ...], touched: tuple[str, ...]) -> tuple[Process, ...]:
        """Writes that are bound to these objects die, and with them what would follow them."""
        return tuple((epoch, self._keep(writes, touched)) for epoch, writes in processes)

    def _keep(self, writes: tuple[int, ...], touched: tuple[str, ...]) -> tuple[int, ...]:
        for place, write in enumerate(writes):
            target = self.space.targets[write]
            if target in touched and target.partition(" ")[0] not in self._rules.unbound:
                return writes[:place]
        return writes


def _with(processes: tuple[Process, ...], index: int, process: Process) -> tuple[Process, ...]:
    return (*processes[:index], process, *processes[index + 1 :])
