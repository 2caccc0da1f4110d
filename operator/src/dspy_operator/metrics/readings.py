"""What one reading of Prometheus is: every pod's gauges and counters at one instant.

Built by `reader.py`, read by `looks.py` and `reconcile/observe.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dspy_operator.rollout.model import Unmeasured

ProgramKey: TypeAlias = tuple[str, str]
"""(namespace, program)."""


@dataclass(frozen=True)
class Interest:
    """What one open attempt needs to read.

    Attributes:
        key: whose pods.
        les: bounds of the latency histogram as Prometheus writes them (`list_les`); empty: all of them.
        series: counters of the user's own program, for Ratio.
        gauges_only: only the confirmation of a table is awaited, no counters.
    """

    key: ProgramKey
    les: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    gauges_only: bool = False


@dataclass(frozen=True, order=True)
class CounterKey:
    """One counter of one pod: its name, its revision, and the labels that matter, sorted."""

    name: str
    revision: str
    labels: tuple[tuple[str, str], ...] = ()

    def get_label(self, label: str) -> str:
        """The value of a label, empty where it is not there (as in PromQL)."""
        return dict(self.labels).get(label, "")


@dataclass(frozen=True)
class PodReading:
    """What one pod said of itself.

    Attributes:
        generation: of the routing table in force, None if it reports none.
        sampled_at: Unix seconds of its last scrape.
        applied_at: Unix seconds when its table came into force.
        loaded: per revision it knows, whether that program can answer.
        states: per revision, the program's state in words.
        counters: the counters, values since the process started.
        replica: which of several scrapers of this pod was read; its counters are no continuation of another's.
    """

    generation: int | None = None
    sampled_at: float | None = None
    applied_at: float | None = None
    loaded: Mapping[str, bool] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    counters: Mapping[CounterKey, float] = field(default_factory=dict)
    replica: str = ""


@dataclass(frozen=True)
class Reading:
    """All programs that were asked for, at one instant of Prometheus' clock.

    Attributes:
        t: Unix seconds.
        programs: per (namespace, program) its pods by name; a program without pods has none.
        unmeasured: programs whose own series make no sense (NaN, duplicates); the others are not touched by it.
    """

    t: float
    programs: Mapping[ProgramKey, Mapping[str, PodReading]] = field(default_factory=dict)
    unmeasured: Mapping[ProgramKey, Unmeasured] = field(default_factory=dict)


@dataclass(frozen=True)
class IdleReading:
    """What Prometheus sees while nothing is in progress, for the condition TelemetryReady.

    Attributes:
        t: Unix seconds.
        generations: per (namespace, program), per pod: the generation of its table.
        scores: per (namespace, program), per (revision, source): scores that its pods have counted.
        unlabelled: programs whose series came without `namespace` or `pod`: the scrape does not add them.
    """

    t: float
    generations: Mapping[ProgramKey, Mapping[str, int]]
    scores: Mapping[ProgramKey, Mapping[tuple[str, str], float]]
    unlabelled: frozenset[str]
