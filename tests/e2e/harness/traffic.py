"""The clients of a world: the traffic pod, its counts, and the statistics that a story asserts about them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.traffic.manifest import CONTROL_PORT

if TYPE_CHECKING:
    from tests.e2e.harness.api import Api, Object

SIGMAS = 4.4  # one false alarm in 100,000


@dataclass(frozen=True)
class Split:
    """Answers by revision in a stretch of time."""

    counts: Counter[str]
    seconds: int

    @property
    def total(self) -> int:
        """All answers."""
        return sum(self.counts.values())

    def assert_share(self, revision: str, weight: int) -> None:
        """The revision's answers are within binomial bounds of the weight in percent."""
        share, total, got = weight / 100, self.total, self.counts[revision]
        spread = SIGMAS * math.sqrt(total * share * (1 - share)) + 1
        assert total >= 100, f"only {total} answers in {self.seconds} s: {dict(self.counts)}"
        assert abs(got - total * share) <= spread, (
            f"{got} of {total} answers ({got / total:.1%}) where {weight} % is due, ± {spread:.0f}; {dict(self.counts)}"
        )


@dataclass(frozen=True)
class Traffic:
    """The traffic pod of one namespace."""

    api: Api
    namespace: str
    pod: str = "traffic"

    @property
    def target(self) -> str:
        """Its control endpoint."""
        return f"pods/{self.namespace}/{self.pod}:{CONTROL_PORT}"

    def get_stats(self, since: float = math.inf) -> Object:
        """The client's report; by default without the seconds' buckets."""
        return self.api.ask(self.target, f"/stats?since={since}")

    def get_now(self) -> float:
        """Unix time by the clients' clock."""
        return float(self.get_stats()["now"])

    def mark(self, name: str) -> Object:
        """End the current window, return its counts, begin another."""
        return self.api.ask(self.target, "/mark", {"name": name})

    def set_rate(self, rps: float) -> None:
        """Requests a second from now on."""
        self.api.ask(self.target, "/rate", {"rps": rps})

    def get_answered(self) -> int:
        """How many requests were answered so far."""
        return int(self.get_stats()["total"]["answered"])

    def get_failed(self) -> int:
        """How many requests failed so far."""
        return int(self.get_stats()["total"]["failed"])

    def assert_none_failed(self) -> int:
        """No request has failed since the first that was answered; returns how many were answered.

        A node learns of a new Service a moment after its pods are Ready: what is refused before the very first
        answer speaks of the node (`World.start_traffic` asks slowly until then, so that it is a handful).
        """
        stats = self.get_stats()
        total, failures = stats["total"], stats["first_failures"]
        began = min((arm["first_sent_at"] for arm in total["revisions"].values()), default=math.inf)
        early = sum(failure["sent_at"] < began for failure in failures)
        assert total["failed"] == early, (
            f"{total['failed'] - early} of {total['sent']} requests failed: {total['causes']}; {failures}"
        )
        return int(total["answered"])

    def get_split(self, start: float, end: float) -> Split:
        """Answers by revision of the whole seconds between two Unix times, by when they were sent."""
        first, last = math.ceil(start), math.floor(end)
        counts: Counter[str] = Counter()
        for second, answers in self.get_stats(first)["buckets"]:
            if first <= second < last:
                counts.update(answers)
        return Split(counts, last - first)
