"""What every part of the simulated world shares: the clock, the dice, the objects, which faults are on."""

import random
from collections.abc import Callable

from tests.simulation.client import DAWN
from tests.simulation.loop import VirtualLoop
from tests.simulation.plan import Fault, FaultKind, Plan
from tests.simulation.store import Store


class Weather:
    """`beginning` is the loop's time when the story begins; plans count from there."""

    def __init__(self, plan: Plan, loop: VirtualLoop) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.store = Store(lambda: self.time)
        self.beginning = loop.now
        self._loop = loop
        self._last = max((fault.until for fault in plan.faults), default=0.0)

    @property
    def time(self) -> float:
        """Seconds since 1970 by the API server, Prometheus and the pods, which agree."""
        return DAWN + self._loop.now

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._loop.now - self.beginning

    def is_on(self, kind: FaultKind) -> bool:
        """Whether such a fault may strike now."""
        return bool(self.list_on(kind))

    def is_calm(self) -> bool:
        """Whether no fault is on."""
        now = self._loop.now - self.beginning
        return now >= self._last or not any(fault.at <= now < fault.until for fault in self.plan.faults)

    def list_on(self, *kinds: FaultKind) -> list[Fault]:
        """The faults of these kinds (all without any) whose time it is."""
        now = self._loop.now - self.beginning
        if now >= self._last:
            return []
        return [f for f in self.plan.faults if f.at <= now < f.until and (not kinds or f.kind in kinds)]

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Do something in `delay` seconds."""
        self._loop.call_later(delay, act)
