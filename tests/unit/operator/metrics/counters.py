"""What pods of a program have counted, as readings: the world of the tests of looks."""

from collections.abc import Mapping

from dspy_operator.api.names import Metric
from dspy_operator.metrics.looks import Bases, LookPlan, take_bases, take_look
from dspy_operator.metrics.readings import CounterKey, PodReading, ProgramKey, Reading
from dspy_operator.rollout.judging import Look, MetricConfig, MetricType

KEY: ProgramKey = ("ml", "triage")
STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
READY = frozenset({"pod-0", "pod-1"})

SCORE = MetricConfig("score", MetricType.SCORE, 0.05)
ERRORS = MetricConfig("errors", MetricType.ERROR_RATE, 0.01)
LATENCY = MetricConfig("latency", MetricType.LATENCY_P95, 0.2)
RATIO = MetricConfig("refusals", MetricType.RATIO, 0.01)
COST = MetricConfig("cost", MetricType.COST_PER_REQUEST, 0.3, dry_run=True)

PLAN = LookPlan(
    stable=STABLE,
    canary=CANARY,
    metrics=(SCORE, ERRORS),
    sources={"score": "metric", "refusals": "triage_refusals_total"},
    generation=7,
    share=0.1,
)

Counters = Mapping[CounterKey, float]


def counter(name: str, revision: str, **labels: str) -> CounterKey:
    return CounterKey(
        name, revision, tuple(sorted((key.rstrip("_"), value) for key, value in labels.items()))
    )


def scores(revision: str, n: float, total: float, squares: float, source: str = "metric") -> Counters:
    return {
        counter(Metric.SCORE_SAMPLES, revision, source=source): n,
        counter(Metric.SCORE_SUM, revision, source=source): total,
        counter(Metric.SCORE_SUMSQ, revision, source=source): squares,
    }


def requests(revision: str, route: str = "/ask", **codes: float) -> Counters:
    return {
        counter(Metric.HTTP_REQUESTS, revision, route=route, code=code.removeprefix("c")): value
        for code, value in codes.items()
    }


def pod(*counters: Counters, generation: int | None = 7, t: float = 0.0, replica: str = "") -> PodReading:
    merged = {key: value for part in counters for key, value in part.items()}
    base = requests(STABLE, c200=0.0)
    loaded = {STABLE: True, CANARY: True}
    return PodReading(generation, t, t, loaded, {}, {**base, **merged}, replica)


def reading(t: float, **pods: PodReading) -> Reading:
    return Reading(t, {KEY: {name.replace("_", "-"): one for name, one in pods.items()}})


def look_between(
    first: Reading, second: Reading, plan: LookPlan = PLAN, ready: frozenset[str] = READY
) -> tuple[Look, Bases]:
    look, bases = take_look(take_bases(first, KEY, plan), second, KEY, plan, ready)
    assert isinstance(look, Look), look
    return look, bases
