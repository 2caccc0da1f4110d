"""The reader against a scripted Prometheus over real HTTP: what it asks, and what it makes of the answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.operator.metrics.answers import INTEREST, POD, rows, state
from tests.unit.operator.metrics.scripted import (
    CLOCK,
    NOW,
    Handler,
    is_counters_query,
    is_state_query,
    run_scripted,
    series,
    success,
)

from dspy_operator.api.names import Metric
from dspy_operator.metrics.queries import DURATION_BUCKET
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import CounterKey, Interest, Reading
from dspy_operator.rollout.judging import MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured


async def test_a_reading_has_each_pods_gauges_and_counters(read: Callable[..., Any]) -> None:
    counters = [series(Metric.HTTP_REQUESTS, 5, revision="a", route="/ask", code="200", **POD)]
    with run_scripted(rows(state(), counters)) as prometheus:
        reading = await read(prometheus)
    assert isinstance(reading, Reading)
    assert reading.t == NOW
    pod = reading.programs["ml", "triage"]["pod-0"]
    assert (pod.generation, pod.sampled_at, pod.applied_at) == (7, NOW - 2, NOW - 50)
    assert (pod.loaded, pod.states) == ({"a": True}, {"a": "loaded"})
    key = CounterKey(Metric.HTTP_REQUESTS, "a", (("code", "200"), ("route", "/ask")))
    assert pod.counters[key] == 5


async def test_three_queries_of_one_instant_serve_all_programs(read: Callable[..., Any]) -> None:
    interests = [Interest(("ml", f"p{index}"), ("1.0",), ("refusals_total",)) for index in range(50)]
    with run_scripted(rows([])) as prometheus:
        assert isinstance(await read(prometheus, *interests), Reading)
    assert len(prometheus.queries) == 3
    assert [query.get("time") for query in prometheus.queries] == [None, f"{NOW:.3f}", f"{NOW:.3f}"]
    assert all("p49" in query["query"] for query in prometheus.queries)


async def test_programs_without_frozen_limits_do_not_make_the_others_read_every_bound(
    read: Callable[..., Any],
) -> None:
    def bucket(le: str, namespace: str, program: str) -> dict[str, Any]:
        labels = POD | {"namespace": namespace, "program": program}
        return series(DURATION_BUCKET, 1, revision="a", cache="miss", le=le, **labels)

    def answer(handler: Handler) -> None:
        places = [("ml", "one"), ("qa", "two"), ("ml", "two")]
        if is_state_query(handler.form):
            pods = [
                row for namespace, program in places for row in state(namespace=namespace, program=program)
            ]
            handler.send(success([*pods, CLOCK]))
        elif is_counters_query(handler.form):
            handler.send(success([]))
        else:
            bounds = ["1.0", "2.0", "+Inf"] if 'le=~".+"' in handler.form["query"] else ["1.0", "+Inf"]
            handler.send(success([bucket(le, *place) for place in places for le in bounds]))

    frozen = [Interest(("ml", "one"), ("1.0",)), Interest(("qa", "two"), ("1.0",))]
    with run_scripted(answer) as prometheus:
        reading = await read(prometheus, *frozen, Interest(("ml", "two")))
    assert len(prometheus.queries) == 4
    assert reading.unmeasured == {}
    read_bounds = {key: len(pods["pod-0"].counters) for key, pods in reading.programs.items()}
    assert read_bounds == {("ml", "one"): 2, ("qa", "two"): 2, ("ml", "two"): 3}


async def test_a_confirmation_needs_one_query(read: Callable[..., Any]) -> None:
    with run_scripted(rows(state())) as prometheus:
        reading = await read(prometheus, Interest(("ml", "triage"), gauges_only=True))
    assert reading.programs["ml", "triage"]["pod-0"].generation == 7
    assert len(prometheus.queries) == 1


async def test_the_past_is_read_at_its_time(read: Callable[..., Any]) -> None:
    with run_scripted(rows([])) as prometheus:
        await read(prometheus, at=NOW - 600.5)
    assert prometheus.queries[0]["time"] == f"{NOW - 600.5:.3f}"


async def test_queries_travel_in_the_body_and_not_in_the_url(read: Callable[..., Any]) -> None:
    with run_scripted(rows([])) as prometheus:
        await read(prometheus)
    assert {header["Content-Type"] for header in prometheus.headers} == {"application/x-www-form-urlencoded"}


async def test_other_namespaces_and_programs_are_ignored(read: Callable[..., Any]) -> None:
    foreign = [*state(namespace="other"), *state(program="else")]
    with run_scripted(rows([*state(), *foreign])) as prometheus:
        reading = await read(prometheus)
    assert set(reading.programs) == {("ml", "triage")}
    assert set(reading.programs["ml", "triage"]) == {"pod-0"}


async def test_a_series_of_the_servers_own_cannot_be_asked_for_as_a_users_counter(
    read: Callable[..., Any],
) -> None:
    interest = Interest(("ml", "triage"), series=("dspy_request_duration_seconds_bucket", "refusals_total"))
    with run_scripted(rows([])) as prometheus:
        await read(prometheus, interest)
    (asked,) = [form["query"] for form in prometheus.queries if is_counters_query(form)]
    assert "refusals_total" in asked
    assert "bucket" not in asked


async def test_a_program_that_no_pod_reports_has_none(read: Callable[..., Any]) -> None:
    with run_scripted(rows([])) as prometheus:
        reading = await read(prometheus)
    assert reading.programs == {("ml", "triage"): {}}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_a_program_with_a_number_that_is_none_is_unmeasured_and_the_others_are_not(
    read: Callable[..., Any], value: str
) -> None:
    bad = series(Metric.SCORE_SUM, value, revision="a", source="metric", **POD)
    with run_scripted(rows([*state(), *state(program="fine")], [bad])) as prometheus:
        reading = await read(prometheus, INTEREST, Interest(("ml", "fine")))
    assert "dspy_score_sum_total" in reading.unmeasured["ml", "triage"].message
    assert set(reading.programs) == {("ml", "fine")}


@pytest.mark.parametrize("value", ["", None, "x", [1]])
async def test_a_value_of_another_shape_is_no_reading(read: Callable[..., Any], value: Any) -> None:
    row = {"metric": POD | {"__name__": "dspy_routes_generation"}, "value": [NOW, value]}
    with run_scripted(rows([row])) as prometheus:
        assert isinstance(await read(prometheus), Unmeasured)


async def test_the_same_series_twice_is_unmeasured(read: Callable[..., Any]) -> None:
    row = series(Metric.SCORE_SUM, 1, revision="a", source="metric", **POD)
    with run_scripted(rows(state(), [row, row])) as prometheus:
        reading = await read(prometheus)
    assert "twice" in reading.unmeasured["ml", "triage"].message


async def test_a_label_that_a_newer_server_adds_is_seen_and_not_silently_left_out(
    read: Callable[..., Any],
) -> None:
    split = [
        series(Metric.SCORE_SUM, 1, revision="a", source="metric", tenant=tenant, **POD) for tenant in "xy"
    ]
    with run_scripted(rows(state(), split)) as prometheus:
        reading = await read(prometheus)
    assert "dspy_score_sum_total" in reading.unmeasured["ml", "triage"].message


async def test_of_a_pair_of_scrapers_one_is_read_for_good() -> None:
    def scraped(replica: str, n: int) -> list[dict[str, Any]]:
        counter = series(Metric.SCORE_SAMPLES, n, revision="a", source="metric", replica=replica, **POD)
        return [*state(replica=replica), counter]

    answers = [[*scraped("b", 11)], [*scraped("a", 12), *scraped("b", 13)], [*scraped("a", 14)]]
    current: list[dict[str, Any]] = []

    def answer(handler: Handler) -> None:
        mine = [row for row in current if (row["metric"].get("__name__") == Metric.SCORE_SAMPLES)]
        others = [row for row in current if row not in mine]
        rows(others, mine)(handler)

    seen = []
    with run_scripted(answer) as prometheus:
        reader = PrometheusReader(prometheus.url)
        for rows_now in answers:
            current[:] = rows_now
            reading = await reader.read([INTEREST])
            assert isinstance(reading, Reading)
            pod = reading.programs["ml", "triage"]["pod-0"]
            seen.append((next(iter(pod.counters.values())), "replica=b" in pod.replica))
        reader.close()
    assert seen == [(11, True), (13, True), (14, False)]


async def test_every_query_is_counted() -> None:
    outcomes: list[str] = []
    with run_scripted(rows(state())) as prometheus:
        reader = PrometheusReader(prometheus.url, on_query=outcomes.append)
        await reader.read([INTEREST])
        prometheus.answer = lambda handler: handler.send(b"", 503)
        await reader.read([INTEREST])
        reader.close()
    assert outcomes == ["ok", "ok", "ok", "failed"]


async def test_a_token_is_read_anew_for_each_query(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with run_scripted(rows([])) as prometheus:
        reader = PrometheusReader(prometheus.url, token_file=token)
        await reader.read([Interest(("ml", "triage"), gauges_only=True)])
        token.write_text("second\n")
        await reader.read([Interest(("ml", "triage"), gauges_only=True)])
        reader.close()
    assert [sent["Authorization"] for sent in prometheus.headers] == ["Bearer first", "Bearer second"]


async def test_while_idle_one_query_tells_pods_scores_and_missing_labels() -> None:
    unlabelled = series(Metric.ROUTES_GENERATION, 3, program="lost")
    scored = series(Metric.SCORE_SAMPLES, 40, revision="a", source="metric", **POD)
    with run_scripted(rows([*state()[1:2], scored, unlabelled])) as prometheus:
        reader = PrometheusReader(prometheus.url)
        idle = await reader.read_generations()
        reader.close()
    assert not isinstance(idle, Unmeasured)
    assert idle.generations == {("ml", "triage"): {"pod-0": 7}}
    assert idle.scores == {("ml", "triage"): {("a", "metric"): 40}}
    assert idle.unlabelled == {"lost"}
    assert len(prometheus.queries) == 1


async def test_a_metric_without_a_days_history_has_no_reference() -> None:
    def answer(handler: Handler) -> None:
        asked = handler.form["query"]
        if Metric.HTTP_REQUESTS in asked:
            found = [series("", 990, code="200"), series("", 10, code="500"), series("", 500, code="422")]
        elif Metric.SCORE_SAMPLES in asked:
            found = [series("", 19, source="metric"), series("", 50, source="feedback")]
        elif Metric.SCORE_SUMSQ in asked or Metric.SCORE_SUM in asked:
            found = [series("", 19, source="metric"), series("", 40, source="feedback")]
        else:
            found = []
        handler.send(success(found))

    metrics = [
        MetricConfig("score", MetricType.SCORE, 0.05),
        MetricConfig("pinned", MetricType.SCORE, 0.05),
        MetricConfig("errors", MetricType.ERROR_RATE, 0.01),
        MetricConfig("latency", MetricType.LATENCY_P95, 0.2),
    ]
    with run_scripted(answer) as prometheus:
        reader = PrometheusReader(prometheus.url)
        references = await reader.read_reference(("ml", "triage"), "a", metrics, {"pinned": "metric"})
        reader.close()
    assert not isinstance(references, Unmeasured)
    assert set(references) == {"score", "errors"}
    assert (references["score"].mean, references["score"].source) == (0.8, "feedback")
    assert references["score"].variance == pytest.approx(0.16)
    assert references["errors"].mean == pytest.approx(0.99)
    assert references["errors"].variance == pytest.approx(0.0099)


@pytest.mark.parametrize(("requests", "known"), [(99, set()), (100, {"errors"})])
async def test_a_share_needs_a_hundred_requests_of_history(requests: int, known: set[str]) -> None:
    answer = success([series("", requests, code="200")])
    with run_scripted(lambda handler: handler.send(answer)) as prometheus:
        reader = PrometheusReader(prometheus.url)
        references = await reader.read_reference(
            ("ml", "triage"), "a", [MetricConfig("errors", MetricType.ERROR_RATE, 0.01)]
        )
        reader.close()
    assert not isinstance(references, Unmeasured)
    assert set(references) == known
