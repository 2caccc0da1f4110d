"""What a real server's metrics page becomes in the operator: every name and label that a look needs is on it."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from dspy_operator.api.names import PATH_HEALTH, Metric
from dspy_operator.metrics.looks import LookPlan, find_confirmation, take_bases, take_look
from dspy_operator.metrics.queries import COUNTERS, DURATION_BUCKET, GAUGES, READING
from dspy_operator.metrics.readings import PodReading, Reading
from dspy_operator.metrics.series import Row, build_pods
from dspy_operator.rollout.judging import Look, MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured
from dspy_server.contract import CacheLabel, ErrorClass, ProgramState, ScoreSource
from dspy_server.metrics import Metrics, RoutesView

KEY = ("ml", "triage")
STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
SCRAPED = {"namespace": "ml", "pod": "pod-0", "instance": "10.0.0.1:9090", "job": "pods"}
PLAN = LookPlan(
    STABLE,
    CANARY,
    (
        MetricConfig("score", MetricType.SCORE, 0.05),
        MetricConfig("errors", MetricType.ERROR_RATE, 0.01),
        MetricConfig("latency", MetricType.LATENCY_P95, 0.2),
    ),
    generation=7,
    sources={"score": "metric"},
    share=0.1,
)


def build_server() -> Metrics:
    metrics = Metrics("triage", ["openai/gpt-4o-mini"])
    states = {STABLE: ProgramState.LOADED, CANARY: ProgramState.LOADED}
    metrics.bind(lambda: RoutesView(7, 1234.5, ((STABLE, "stable", 90), (CANARY, "canary", 10)), states, {}))
    for revision in (STABLE, CANARY):
        metrics.add_revision(revision, [ScoreSource.METRIC])
    return metrics


def answer(metrics: Metrics, revision: str, code: str, score: float | None) -> None:
    metrics.http.labels("triage", revision, "/ask", code).inc()
    if code == "200":
        metrics.duration.labels("triage", revision, CacheLabel.MISS).observe(0.7)
    else:
        metrics.errors.labels("triage", revision, ErrorClass.TIMEOUT).inc()
    if score is not None:
        metrics.add_score(revision, ScoreSource.METRIC, score)


def scrape(metrics: Metrics, t: float) -> Mapping[str, PodReading]:
    """The page as Prometheus keeps it: the families that are asked for, and the time of the scrape."""
    wanted = {*GAUGES, *COUNTERS, DURATION_BUCKET}
    rows = [
        Row({"__name__": sample.name} | sample.labels | SCRAPED, sample.value)
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name in wanted and sample.labels.get("cache") != CacheLabel.HIT
    ]
    rows.append(Row({READING: "sampled_at", "program": "triage"} | SCRAPED, t))
    pods = build_pods([row for row in rows if row.name in wanted | {READING}], {})
    assert not isinstance(pods, Unmeasured), pods
    return pods


def test_a_table_in_force_is_confirmed_by_a_servers_page() -> None:
    reading = Reading(100, {KEY: scrape(build_server(), 99)})
    assert find_confirmation(reading, KEY, {"pod-0": [STABLE, CANARY]}, 7) == 99
    pod = reading.programs[KEY]["pod-0"]
    assert pod.applied_at == 1234.5
    assert pod.states == {STABLE: "loaded", CANARY: "loaded"}


def test_two_pages_of_a_server_make_a_look() -> None:
    metrics = build_server()
    first = Reading(100, {KEY: scrape(metrics, 99)})
    for score in (1.0, 0.5, None):
        answer(metrics, CANARY, "200" if score is not None else "503", score)
    for _ in range(9):
        answer(metrics, STABLE, "200", 1.0)
    metrics.http.labels("triage", "", PATH_HEALTH, "200").inc(50)
    second = Reading(130, {KEY: scrape(metrics, 129)})
    look, _ = take_look(take_bases(first, KEY, PLAN), second, KEY, PLAN, frozenset({"pod-0"}))
    assert isinstance(look, Look), look
    assert look.settled
    canary, stable = look.metrics["score"]
    assert (canary.n, canary.sum, canary.sumsq, stable.n) == (2, 1.5, 1.25, 9)
    canary, stable = look.metrics["errors"]
    assert (canary.n, canary.bad, stable.n, stable.bad) == (3, 1, 9, 0)
    canary, stable = look.metrics["latency"]
    assert (canary.n, stable.n) == (2, 9)
    assert {count for bound, count in stable.histogram if bound >= 1} == {9}
    assert (look.requests, look.provider_errors) == ((3, 9), (1, 0))


def test_every_counter_of_a_look_is_there_at_zero_before_the_first_request() -> None:
    pod = scrape(build_server(), 99)["pod-0"]
    canary = {key.name for key in pod.counters if key.revision == CANARY}
    needed = {
        Metric.HTTP_REQUESTS,
        Metric.PROGRAM_ERRORS,
        Metric.SCORE_SAMPLES,
        Metric.SCORE_SUM,
        Metric.SCORE_SUMSQ,
        DURATION_BUCKET,
    }
    assert needed <= canary
