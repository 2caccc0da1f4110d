"""Counters to looks, case by case: what the pods show at each moment, and what the operator must make of it.

Written once and run twice: on paper by `test_cases.py`, by a real Prometheus in `tests/prometheus`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.unit.operator.metrics.pages import CANARY, PROGRAM, STABLE, Page

from dspy_operator.api.names import Metric
from dspy_operator.metrics.looks import Bases, LookPlan, find_confirmation, take_bases, take_look
from dspy_operator.metrics.readings import ProgramKey, Reading
from dspy_operator.rollout.judging import (
    Action,
    Counts,
    Look,
    MetricConfig,
    MetricType,
    Reference,
    RolloutConfig,
    StepConfig,
    judge,
    judge_blind,
    start,
)
from dspy_operator.rollout.model import Unmeasured

METRICS = (
    MetricConfig("score", MetricType.SCORE, 0.05),
    MetricConfig("errors", MetricType.ERROR_RATE, 0.01),
)
PLAN = LookPlan(STABLE, CANARY, METRICS, generation=7, sources={"score": "metric"}, share=0.1)
CONFIG = RolloutConfig(steps=(StepConfig(10), StepConfig(100)), metrics=METRICS)
REFERENCES = {"score": Reference(0.5, 0.01), "errors": Reference(0.99, 0.0099)}


@dataclass(frozen=True)
class Seen:
    """What came of one moment.

    Attributes:
        metrics: per metric (canary, stable); None: not a settled look.
        requests: of (canary, stable).
        dropped: increments that could not be true.
        trouble: why there is no look.
        confirmed: whether that reading shows the table in effect in every Ready pod.
    """

    metrics: Mapping[str, tuple[Counts, Counts]] | None = None
    requests: tuple[float, float] = (0.0, 0.0)
    dropped: int = 0
    trouble: str = ""
    confirmed: bool = True


@dataclass(frozen=True)
class Moment:
    """What is there when a reading is taken.

    Attributes:
        pods: their pages; None: the pod is scraped and does not answer.
        seen: what must come of it; None at the first moment, which only sets the bases.
        ready: the Ready pods; None: those that are named in `pods`.
        scrapers: the jobs that scrape each pod.
    """

    pods: Mapping[str, Page | None]
    seen: Seen | None = None
    ready: frozenset[str] | None = None
    scrapers: tuple[str, ...] = ("pods",)

    def get_ready(self) -> frozenset[str]:
        """Who answers users."""
        return frozenset(self.pods) if self.ready is None else self.ready


@dataclass(frozen=True)
class Case:
    """A name, also its namespace, and what happens."""

    name: str
    moments: tuple[Moment, ...]

    @property
    def key(self) -> ProgramKey:
        """Whose pods."""
        return self.name.replace(" ", "-"), PROGRAM


@dataclass
class Walk:
    """One case under way: takes each moment's reading, remembers what came of it."""

    case: Case
    bases: Bases | None = None
    seen: list[Seen] = field(default_factory=list)

    def take(self, reading: Reading, moment: Moment) -> None:
        """One reading more; checks what no look may do, whatever the case."""
        ready, before = moment.get_ready(), self.bases
        if before is None:
            self.bases = take_bases(reading, self.case.key, PLAN)
            return
        look, self.bases = take_look(before, reading, self.case.key, PLAN, ready)
        assert_harmless(look, before.t)
        self.seen.append(
            Seen(
                metrics=look.metrics if isinstance(look, Look) and look.settled else None,
                requests=look.requests if isinstance(look, Look) else (0.0, 0.0),
                dropped=self.bases.dropped - before.dropped,
                trouble=look.message if isinstance(look, Unmeasured) else "",
                confirmed=find_confirmation(reading, self.case.key, dict.fromkeys(ready, (STABLE, CANARY)), 7)
                is not None,
            )
        )


def assert_harmless(look: Look | Unmeasured, since: float) -> None:
    """No increment is negative; what measured nothing is neither evidence against nor for the canary, nor dwell."""
    state = start(CONFIG, REFERENCES, since)
    if isinstance(look, Unmeasured):
        assert judge_blind(state, since + 30).action is Action.HOLD
        return
    for counts in (arm for arms in look.metrics.values() for arm in arms):
        assert min(counts.n, counts.sum, counts.sumsq or 0.0, counts.bad) >= 0
    after, verdict = judge(state, look)
    assert verdict.action is Action.HOLD
    if not any(arm.n for arms in look.metrics.values() for arm in arms):
        assert after.metrics == state.metrics
        assert after.clock.observed == 0


def gained(
    stable: int, canary: int, failed: int = 0, late: int = 0, dropped: int = 0, *, confirmed: bool = True
) -> Seen:
    """A look in which both metrics gained that much, every score being 0.5."""
    scored = canary + late
    metrics = {
        "score": (Counts(scored, scored / 2, scored / 4), Counts(stable, stable / 2, stable / 4)),
        "errors": (Counts(canary + failed, bad=failed), Counts(stable)),
    }
    return Seen(metrics, (canary + failed, stable), dropped, confirmed=confirmed)


def only_errors(stable: int, canary: int, dropped: int = 0) -> Seen:
    """A look that brought no scores."""
    return Seen({"errors": (Counts(canary), Counts(stable))}, (canary, stable), dropped)


NOTHING = Seen({})
UNSETTLED = Seen(confirmed=False)


def unmeasured(trouble: str, *, confirmed: bool = False) -> Seen:
    """No look, for this reason; the bases stay."""
    return Seen(trouble=trouble, confirmed=confirmed)


def one(page: Page | None, seen: Seen | None = None, ready: frozenset[str] | None = None) -> Moment:
    """A moment of a program with a single pod."""
    return Moment({"pod-0": page}, seen, ready)


def two(first: Page | None, second: Page | None, seen: Seen | None = None) -> Moment:
    """A moment of a program with two pods."""
    return Moment({"pod-0": first, "pod-1": second}, seen)


def paired(page: Page, seen: Seen | None, *scrapers: str) -> Moment:
    """A moment of a single pod that these scrape."""
    return Moment({"pod-0": page}, seen, scrapers=scrapers)


NOT_SCRAPED = unmeasured(f"Prometheus has no series of a pod of {PROGRAM}")
NO_REQUESTS = unmeasured(f"no pod of {PROGRAM} reports {Metric.HTTP_REQUESTS}", confirmed=True)
SCORES = frozenset({Metric.SCORE_SAMPLES, Metric.SCORE_SUM, Metric.SCORE_SUMSQ})
