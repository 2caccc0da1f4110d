"""The ports and parts that a reconciler is put together from; `assembly.py` does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dspy_operator.metrics.readings import IdleReading
from dspy_operator.reconcile.clock import ServerClock
from dspy_operator.reconcile.execute import Executor
from dspy_operator.reconcile.programs import ReadsHistory
from dspy_operator.reconcile.record import Recorder
from dspy_operator.reconcile.reporting import Reporter
from dspy_operator.reconcile.sampler import Sampler
from dspy_operator.reconcile.snapshot import Reader
from dspy_operator.reconcile.worklist import Key, Worklist
from dspy_operator.rollout.model import Unmeasured


class ReadsPrometheus(ReadsHistory, Protocol):
    """The port to Prometheus beside the sampler's."""

    async def read_generations(self) -> IdleReading | Unmeasured:
        """Which pods Prometheus sees, of all programs."""

    async def read_p95(self) -> Mapping[Key, Mapping[str, float]]:
        """Per program and revision, seconds."""


class Leads(Protocol):
    """The port to the Lease: whether this process may write, and under which epoch."""

    @property
    def epoch(self) -> int:
        """Raised at every take-over and after every lost answer."""

    def is_valid(self) -> bool:
        """Whether the Lease is ours for certain."""

    async def raise_epoch(self) -> None:
        """Make every write that is still on its way fail."""


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    checkpoint: float = 60.0
    confirm: float = 1.0
    resync: float = 600.0
    open_resync: float = 30.0
    stale_after: float = 30.0
    tick: float = 10.0
    idle: float = 60.0


@dataclass(frozen=True)
class Parts:
    """What a reconciler is made of."""

    reader: Reader
    prometheus: ReadsPrometheus
    sampler: Sampler
    recorder: Recorder
    executor: Executor
    reporter: Reporter
    worklist: Worklist
    clock: ServerClock
    leads: Leads
    server_time: Callable[[], float]
