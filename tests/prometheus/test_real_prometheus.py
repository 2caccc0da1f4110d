"""The reader against a real Prometheus that scrapes each second."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from tests.prometheus.conftest import Prometheus, wait_until

from dspy_operator.metrics.looks import LookPlan, find_confirmation, take_bases, take_look
from dspy_operator.metrics.queries import COUNTERS
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import CounterKey, Interest, ProgramKey, Reading
from dspy_operator.metrics.session import QueryFailed
from dspy_operator.rollout.judging import Counts, LatencyLimits, Look, MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured

pytestmark = pytest.mark.tools

STABLE, CANARY = "aaaaaaaaaa", "bbbbbbbbbb"
BOUNDS = ("0.5", "1.0", "2.0", "+Inf")
METRICS = (
    MetricConfig("score", MetricType.SCORE, 0.05),
    MetricConfig("errors", MetricType.ERROR_RATE, 0.01),
    MetricConfig("latency", MetricType.LATENCY_P95, 0.2),
    MetricConfig("refusals", MetricType.RATIO, 0.01),
)


@pytest.fixture
def program() -> str:
    return f"p-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def reader(prometheus: Prometheus) -> AsyncIterator[PrometheusReader]:
    opened = PrometheusReader(prometheus.url)
    yield opened
    opened.close()


def page(program: str, generation: int = 7, *, stable: int = 0, canary: int = 0, applied: float = 1.0) -> str:
    """What a server shows after so many good requests of each arm."""
    lines = [
        f'dspy_routes_generation{{program="{program}"}} {generation}',
        f'dspy_routes_applied_timestamp_seconds{{program="{program}"}} {applied}',
    ]
    for revision, n in ((STABLE, stable), (CANARY, canary)):
        who = f'program="{program}",revision="{revision}"'
        lines += [
            f"dspy_program_loaded{{{who}}} 1",
            f'dspy_program_state{{{who},state="loaded"}} 1',
            f'dspy_program_state{{{who},state="refused"}} 0',
            f'dspy_http_requests_total{{{who},route="/ask",code="200"}} {n}',
            f'dspy_http_requests_total{{{who},route="/ask",code="500"}} {n // 10}',
            f'dspy_score_samples_total{{{who},source="metric"}} {n}',
            f'dspy_score_sum_total{{{who},source="metric"}} {n * 0.5}',
            f'dspy_score_sumsq_total{{{who},source="metric"}} {n * 0.25}',
            f"triage_refusals_total{{{who}}} {n // 5}",
            f"dspy_route_fallback_total{{{who}}} {n // 10}",
            f'dspy_request_duration_seconds_count{{{who},cache="miss"}} {n}',
            f'dspy_request_duration_seconds_count{{{who},cache="hit"}} {n}',
        ]
        within = {"0.5": n // 2, "1.0": n * 9 // 10, "2.0": n, "+Inf": n}
        for cache in ("miss", "hit"):
            lines += [
                f'dspy_request_duration_seconds_bucket{{{who},cache="{cache}",le="{le}"}} {within[le]}'
                for le in BOUNDS
            ]
    return "\n".join(lines) + "\n"


async def read_until(reader: PrometheusReader, interest: Interest, is_there: str, generation: int) -> Reading:
    """Read until that pod reports that generation."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        reading = await reader.read([interest])
        assert isinstance(reading, Reading), reading
        pod = reading.programs[interest.key].get(is_there)
        if pod is not None and pod.generation == generation:
            return reading
        await asyncio.sleep(0.1)
    raise AssertionError(f"{is_there} never reported generation {generation}")


def target(program: str, pod: str = "pod-0", namespace: str = "ml", **labels: str) -> dict[str, str]:
    return {"path": f"/{program}/{pod}", "namespace": namespace, "pod": pod} | labels


async def test_two_readings_make_a_look(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    key: ProgramKey = ("ml", program)
    limits = LatencyLimits(p95=1.0, canary=1.0, stable=0.5, absolute=2.0)
    interest = Interest(key, ("0.5", "1", "2"), ("triage_refusals_total",))
    plan = LookPlan(
        STABLE,
        CANARY,
        METRICS,
        generation=7,
        sources={"score": "metric", "refusals": "triage_refusals_total"},
        bounds={"latency": limits},
        share=0.1,
    )
    ready = frozenset({"pod-0", "pod-1"})
    for pod in ready:
        prometheus.pods.texts[f"/{program}/{pod}"] = page(program, stable=100, canary=10)
    prometheus.scrape([target(program, pod) for pod in ready])
    await read_until(reader, interest, "pod-0", 7)
    first = await read_until(reader, interest, "pod-1", 7)
    assert find_confirmation(first, key, dict.fromkeys(ready, (STABLE, CANARY)), 7) is not None
    assert find_confirmation(first, key, dict.fromkeys(ready, (STABLE, CANARY)), 8) is None

    for pod in ready:
        prometheus.pods.texts[f"/{program}/{pod}"] = page(program, 8, stable=300, canary=30)
    await read_until(reader, interest, "pod-0", 8)
    second = await read_until(reader, interest, "pod-1", 8)
    look, _ = take_look(take_bases(first, key, plan), second, key, plan, ready)
    assert isinstance(look, Look), look
    assert look.settled
    assert look.metrics == {
        "score": (Counts(40, 20, 10), Counts(400, 200, 100)),
        "errors": (Counts(n=44, bad=4), Counts(n=440, bad=40)),
        "latency": (Counts(n=40, bad=4), Counts(n=400, bad=200)),
        "refusals": (Counts(n=44, bad=8), Counts(n=440, bad=80)),
    }
    assert (look.successes, look.fallbacks) == ((40, 400), 4)
    again = await reader.read([interest], at=first.t)
    assert isinstance(again, Reading)
    assert take_bases(again, key, plan) == take_bases(first, key, plan)


async def test_a_sample_tells_when_it_was_taken(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program, applied=1234.5)
    prometheus.scrape([target(program)])
    interest = Interest(("ml", program), gauges_only=True)
    reading = await read_until(reader, interest, "pod-0", 7)
    pod = reading.programs["ml", program]["pod-0"]
    assert pod.sampled_at is not None
    assert 0 <= reading.t - pod.sampled_at < 5
    assert pod.applied_at == 1234.5
    assert pod.loaded == {STABLE: True, CANARY: True}
    assert pod.states == {STABLE: "loaded", CANARY: "loaded"}
    assert not pod.counters


async def test_of_a_programs_errors_the_providers_are_read_and_a_users_counter_may_have_a_class(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    who = f'program="{program}",revision="{CANARY}"'
    lines = [
        f'dspy_program_errors_total{{{who},class="{name}"}} 3' for name in ("timeout", "parse", "internal")
    ]
    lines.append(f'cut_short_total{{{who},class="length"}} 4')
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program) + "\n".join(lines) + "\n"
    prometheus.scrape([target(program)])
    reading = await read_until(reader, Interest(("ml", program), series=("cut_short_total",)), "pod-0", 7)
    counters = reading.programs["ml", program]["pod-0"].counters
    read = {key: value for key, value in counters.items() if key.name in {"cut_short_total", *COUNTERS}}
    assert read[CounterKey("cut_short_total", CANARY)] == 4
    errors = [key.get_label("class") for key in read if key.name == "dspy_program_errors_total"]
    assert errors == ["timeout"]


async def test_a_pod_that_is_down_is_gone_from_the_next_reading(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program)
    prometheus.scrape([target(program)])
    interest = Interest(("ml", program))
    await read_until(reader, interest, "pod-0", 7)
    prometheus.pods.texts[f"/{program}/pod-0"] = None
    for _ in range(100):
        reading = await reader.read([interest])
        assert isinstance(reading, Reading)
        if not reading.programs["ml", program]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("a pod that is down is still read")


async def test_a_pod_that_is_scraped_twice_counts_once(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program, stable=100)
    prometheus.scrape([target(program, scraper="one"), target(program, scraper="two")])
    wait_until(
        lambda: len(prometheus.ask(f'dspy_routes_generation{{program="{program}"}}')) == 2,
        "both were scraped",
    )
    reading = await read_until(reader, Interest(("ml", program)), "pod-0", 7)
    pod = reading.programs["ml", program]["pod-0"]
    assert "scraper=one" in pod.replica
    scored = [value for key, value in pod.counters.items() if key.name == "dspy_score_samples_total"]
    assert sorted(scored) == [0, 100]


async def test_another_namespaces_program_of_that_name_is_not_read(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program)
    prometheus.pods.texts[f"/{program}/pod-9"] = page(program, 99)
    prometheus.scrape([target(program), target(program, "pod-9", "elsewhere")])
    wait_until(
        lambda: prometheus.ask(f'dspy_routes_generation{{program="{program}",namespace="elsewhere"}}'),
        "it is there",
    )
    reading = await read_until(reader, Interest(("ml", program)), "pod-0", 7)
    assert list(reading.programs) == [("ml", program)]
    assert list(reading.programs["ml", program]) == ["pod-0"]


@pytest.mark.parametrize(
    "name", ['quo"te', "back\\slash", "new\nline", "a|b", "x.*", "ü{}$^", "\x00\x7f", "\u200b"]
)
async def test_whatever_a_program_is_called_it_is_asked_for_as_such(
    prometheus: Prometheus, reader: PrometheusReader, program: str, name: str
) -> None:
    key = ("ml", f"{program}{name}")
    reading = await reader.read([Interest(key, ("1.0",), ("x_total",))])
    assert isinstance(reading, Reading), reading
    assert reading.programs == {key: {}}


@pytest.mark.parametrize("deadline", [2.0, 7.3])
async def test_prometheus_is_told_how_long_it_may_take_in_its_own_words(
    prometheus: Prometheus, program: str, deadline: float
) -> None:
    reader = PrometheusReader(prometheus.url, deadline=deadline)
    reading = await reader.read([Interest(("ml", program))])
    reader.close()
    assert isinstance(reading, Reading), reading


async def test_a_query_that_prometheus_refuses_fails_by_its_type(reader: PrometheusReader) -> None:
    with pytest.raises(QueryFailed, match=r"status 400 \(bad_data\)$"):
        await reader._query("secret{")


async def test_a_days_history_becomes_the_reference(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    path = f"/{program}/pod-0"
    prometheus.pods.texts[path] = page(program)
    prometheus.scrape([target(program)])
    interest = Interest(("ml", program))
    await read_until(reader, interest, "pod-0", 7)
    assert await reader.read_reference(("ml", program), STABLE, METRICS) == {}
    prometheus.pods.texts[path] = page(program, 8, stable=1000)
    await read_until(reader, interest, "pod-0", 8)
    sources = {"refusals": "triage_refusals_total"}
    references = await reader.read_reference(("ml", program), STABLE, METRICS, sources)
    assert not isinstance(references, Unmeasured)
    assert set(references) == {"score", "errors", "latency", "refusals"}
    score = references["score"]
    assert score.source == "metric"
    assert score.mean == pytest.approx(0.5, rel=0.02)
    assert score.variance == pytest.approx(0, abs=0.01)
    assert references["errors"].mean == pytest.approx(1 - 100 / 1100, rel=0.02)
    assert references["refusals"].mean == pytest.approx(1 - 200 / 1100, rel=0.02)
    assert references["latency"].p95 == pytest.approx(1.5, rel=0.02)
    assert references["latency"].bounds == (0.5, 1.0, 2.0)


async def test_while_idle_the_pods_of_all_programs_are_seen(
    prometheus: Prometheus, reader: PrometheusReader, program: str
) -> None:
    prometheus.pods.texts[f"/{program}/pod-0"] = page(program, stable=40)
    prometheus.pods.texts[f"/{program}/bare"] = page(f"{program}-bare")
    prometheus.scrape([target(program), {"path": f"/{program}/bare"}])
    await read_until(reader, Interest(("ml", program)), "pod-0", 7)
    wait_until(lambda: prometheus.ask(f'dspy_routes_generation{{program="{program}-bare"}}'), "it is there")
    idle = await reader.read_generations()
    assert not isinstance(idle, Unmeasured)
    assert idle.generations["ml", program] == {"pod-0": 7}
    assert idle.scores["ml", program][STABLE, "metric"] == 40
    assert f"{program}-bare" in idle.unlabelled
