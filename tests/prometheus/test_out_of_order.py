"""A real Prometheus that hangs, answers in part, too much or not at all: never a look, and nothing is lost.

Also one behind a server that sends other things than its answers, as a proxy or a captive portal does.
"""

import gzip
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.prometheus.conftest import Prometheus, wait_until
from tests.unit.operator.metrics.cases import METRICS, PLAN, Case, Moment, Walk, gained, unmeasured
from tests.unit.operator.metrics.pages import MOMENT, PROGRAM, STABLE, Page, build_text
from tests.unit.operator.metrics.scripted import Answer, Handler, Scripted, run_scripted

from dspy_operator.api.names import Metric
from dspy_operator.metrics.looks import take_bases, take_look
from dspy_operator.metrics.reader import PrometheusReader
from dspy_operator.metrics.readings import IdleReading, Interest, Reading
from dspy_operator.rollout.judging import MetricConfig, MetricType
from dspy_operator.rollout.model import Unmeasured

pytestmark = pytest.mark.tools

RATIO = MetricConfig("refusals", MetricType.RATIO, 0.01)
DEAF = "http://127.0.0.1:9/read"
"""A remote store that is down."""

HOUR = 3600.0
MARKER = "do-not-repeat-this"

TESTS = 30
"""At most so many in this file."""

Show = Callable[[Page, int], None]


@pytest.fixture(scope="module")
def namespaces(prometheus: Prometheus) -> Iterator[str]:
    """A namespace for each test, with a pod-0 that does not answer yet: new targets cost Prometheus five seconds."""
    names = [f"case-{uuid.uuid4().hex[:8]}" for _ in range(TESTS)]
    prometheus.scrape([{"path": f"/{name}/pod-0", "namespace": name, "pod": "pod-0"} for name in names])
    return iter(names)


@pytest.fixture
def case(namespaces: Iterator[str]) -> Case:
    return Case(next(namespaces), ())


@pytest.fixture
def show(prometheus: Prometheus, case: Case) -> Show:
    namespace = case.key[0]

    def show_page(page: Page, moment: int) -> None:
        prometheus.pods.texts[f"/{namespace}/pod-0"] = build_text(page, moment, 0)
        query = f'{MOMENT}{{namespace="{namespace}"}} == {moment}'
        wait_until(lambda: prometheus.ask(query), f"moment {moment} is scraped")

    return show_page


@pytest.fixture
async def reader(prometheus: Prometheus) -> AsyncIterator[PrometheusReader]:
    opened = PrometheusReader(prometheus.url, deadline=30.0)
    yield opened
    opened.close()


async def take(walk: Walk, reader: PrometheusReader) -> None:
    reading = await reader.read([Interest(walk.case.key)])
    assert isinstance(reading, Reading), reading
    walk.take(reading, Moment({"pod-0": None}))


async def expect_outage(reader: PrometheusReader, case: Case, words: str) -> None:
    outcome = await reader.read([Interest(case.key)])
    assert isinstance(outcome, Unmeasured), outcome
    assert outcome.reason == "PrometheusUnreachable"
    assert words in outcome.message


async def test_a_hanging_prometheus_costs_the_deadline_and_the_next_look_covers_the_gap(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    walk = Walk(case)
    show(Page(100, 10), 0)
    await take(walk, reader)
    os.kill(prometheus.pid, signal.SIGSTOP)
    try:
        impatient, began = PrometheusReader(prometheus.url, deadline=1.0), time.monotonic()
        await expect_outage(impatient, case, "no answer within 1 s")
        assert time.monotonic() - began < 3
    finally:
        os.kill(prometheus.pid, signal.SIGCONT)
    impatient.close()
    show(Page(120, 12), 1)
    await take(walk, reader)
    assert walk.seen == [gained(20, 2)]


async def test_an_answer_that_a_remote_store_left_partial_is_no_look(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    walk = Walk(case)
    show(Page(100, 10), 0)
    await take(walk, reader)
    prometheus.configure(remote_read=[{"url": DEAF, "read_recent": True}])
    try:
        await expect_outage(reader, case, "warnings")
        assert isinstance(await reader.read_reference(case.key, STABLE, METRICS), Unmeasured)
        assert isinstance(await reader.read_generations(), Unmeasured)
    finally:
        prometheus.configure()
    show(Page(120, 12), 1)
    await take(walk, reader)
    assert walk.seen == [gained(20, 2)]


async def test_an_emptied_store_holds_until_it_is_filled_again(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    namespace = case.key[0]
    walk = Walk(case)
    show(Page(100, 10), 0)
    await take(walk, reader)
    prometheus.pods.texts[f"/{namespace}/pod-0"] = None
    selector = f'{{namespace="{namespace}"}}'
    wait_until(lambda: prometheus.ask(f"up{selector} == 0"), "the pod does not answer")
    prometheus.post(f"/api/v1/admin/tsdb/delete_series?match[]={selector}")
    await take(walk, reader)
    past = await reader.read([Interest(case.key)], at=time.time() - 2)  # noqa: TID251  Prometheus' own clock
    assert isinstance(past, Reading)
    assert past.programs[case.key] == {}
    show(Page(120, 12), 1)
    await take(walk, reader)
    nothing = unmeasured(f"Prometheus has no series of a pod of {PROGRAM}")
    assert walk.seen == [nothing, gained(20, 2)]


async def test_a_clock_that_jumped_back_is_no_look(reader: PrometheusReader, case: Case, show: Show) -> None:
    show(Page(100, 10), 0)
    now = await reader.read([Interest(case.key)])
    assert isinstance(now, Reading)
    past = await reader.read([Interest(case.key)], at=now.t - 60)
    assert isinstance(past, Reading)
    bases = take_bases(now, case.key, PLAN)
    for earlier in (now, Reading(past.t, now.programs)):
        look, kept = take_look(bases, earlier, case.key, PLAN, frozenset({"pod-0"}))
        assert isinstance(look, Unmeasured)
        assert "clock" in look.message
        assert kept is bases


async def test_an_answer_of_more_than_16_mib_is_cut_off_although_it_comes_compressed(
    reader: PrometheusReader, case: Case, show: Show
) -> None:
    bulky = "x" * 60_000
    lines = tuple(
        f'{Metric.FALLBACKS}{{{{who}},from="{number}",to="{bulky}",reason="timeout"}} 1'
        for number in range(300)
    )
    show(Page(100, 10, more=lines), 0)
    await expect_outage(reader, case, "larger than 16 MiB")
    show(Page(100, 10), 1)
    assert isinstance(await reader.read([Interest(case.key)]), Reading)


async def test_a_page_that_is_no_answer_is_told_by_its_status_only(
    prometheus: Prometheus, case: Case
) -> None:
    elsewhere = PrometheusReader(f"{prometheus.url}/graph")
    await expect_outage(elsewhere, case, "no JSON object")
    elsewhere.close()


async def test_one_programs_infinite_generation_ends_no_reading(
    reader: PrometheusReader, case: Case, show: Show
) -> None:
    odd = Metric.ROUTES_GENERATION + '{{who},x="y"} +Inf'
    show(Page(100, 10, more=(odd,)), 0)
    idle = await reader.read_generations()
    assert isinstance(idle, IdleReading)
    assert idle.generations[case.key] == {"pod-0": 7}


@pytest.mark.parametrize("name", ["triage_refusals_total", "triage_refusals"])
async def test_a_users_counter_has_a_history_whatever_it_is_called(
    reader: PrometheusReader, case: Case, show: Show, name: str
) -> None:
    show(Page(0, 0, more=(f"{name}{{{{who}}}} 0",)), 0)
    show(Page(1000, 0, more=(f"{name}{{{{who}}}} 100",)), 1)
    references = await reader.read_reference(case.key, STABLE, [RATIO], {"refusals": name})
    assert not isinstance(references, Unmeasured), references
    assert references["refusals"].mean == pytest.approx(0.9, abs=0.01)
    assert references["refusals"].source == name


# --- a server in front of it ------------------------------------------------------------------------------------


def forward(prometheus: Prometheus) -> Answer:
    """The answers of Prometheus."""
    return lambda handler: handler.send(prometheus.post(handler.path, **handler.form))


def send_a_page(handler: Handler, _: bytes) -> None:
    handler.send(f"<html>{MARKER}</html>".encode(), Content_Type="text/html")


def send_elsewhere(handler: Handler, _: bytes) -> None:
    handler.send(MARKER.encode(), 307, Location=f"{handler.script.url}/{MARKER}{handler.path}")


def send_half_a_gzip(handler: Handler, answer: bytes) -> None:
    packed = gzip.compress(answer)
    handler.send(packed[: len(packed) // 2], Content_Encoding="gzip")


def send_a_broken_gzip(handler: Handler, answer: bytes) -> None:
    packed = bytearray(gzip.compress(answer))
    packed[len(packed) // 2] ^= 0xFF
    handler.send(bytes(packed), Content_Encoding="gzip")


def trickle(handler: Handler, answer: bytes) -> None:
    """The whole answer, in a minute and a half."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(answer)))
    handler.end_headers()
    for byte in answer[:60]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.1)


@contextmanager
def stand_in_front(prometheus: Prometheus) -> Iterator[Scripted]:
    with run_scripted(forward(prometheus)) as front:
        yield front


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (send_a_page, "status 200 and no JSON object"),
        (send_elsewhere, "status 307"),
        (send_half_a_gzip, ""),
        (send_a_broken_gzip, "connection failed"),
        (trickle, "no answer within 1 s|did not end in time"),
    ],
)
async def test_what_a_server_in_front_spoils_is_no_look_and_the_next_one_covers_the_gap(
    prometheus: Prometheus, case: Case, show: Show, fault: Callable[[Handler, bytes], None], words: str
) -> None:
    walk = Walk(case)
    with stand_in_front(prometheus) as front:
        reader = PrometheusReader(front.url, deadline=20.0)
        show(Page(100, 10), 0)
        await take(walk, reader)
        show(Page(110, 11), 1)
        asked = len(front.queries)
        front.answer = lambda handler: fault(handler, prometheus.post(handler.path, **handler.form))
        impatient, began = PrometheusReader(front.url, deadline=1.0), time.monotonic()
        outcome = await impatient.read([Interest(case.key)])
        assert time.monotonic() - began < 3
        assert isinstance(outcome, Unmeasured), outcome
        assert outcome.reason == "PrometheusUnreachable"
        assert any(word in outcome.message for word in words.split("|"))
        assert MARKER not in outcome.message
        assert len(front.queries) == asked + 1
        front.answer = forward(prometheus)
        await take(walk, reader)
        impatient.close()
        reader.close()
    assert walk.seen == [gained(10, 1)]


# --- clocks and hours -------------------------------------------------------------------------------------------


async def test_a_pod_whose_clock_is_hours_ahead_is_confirmed_and_counted_by_prometheus_clock(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    ahead = time.time() + 2 * HOUR  # noqa: TID251  the pod's own clock
    lines = (f'{Metric.ROUTES_APPLIED}{{program="{PROGRAM}"}} {ahead}',)
    walk = Walk(case)
    show(Page(100, 10, more=lines), 0)
    await take(walk, reader)
    show(Page(120, 12, more=lines), 1)
    await take(walk, reader)
    assert walk.seen == [gained(20, 2)]
    reading = await reader.read([Interest(case.key)])
    assert isinstance(reading, Reading)
    pod = reading.programs[case.key]["pod-0"]
    assert pod.applied_at == pytest.approx(ahead)
    assert pod.sampled_at is not None
    assert 0 <= reading.t - pod.sampled_at < 10


async def test_samples_that_a_pod_dates_ahead_are_no_look_until_their_time_and_none_is_counted_twice(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    walk = Walk(case)
    show(Page(100, 10), 0)
    await take(walk, reader)
    began = time.time()  # noqa: TID251  the pod's own clock, which is ahead
    text = build_text(Page(120, 12, stamped=8.0), 1, began)
    prometheus.pods.texts[f"/{case.key[0]}/pod-0"] = text
    wait_until(lambda: prometheus.ask(f'{MOMENT}{{namespace="{case.key[0]}"}} == 1'), "moment 1 is scraped")
    early = await reader.read([Interest(case.key)])
    assert isinstance(early, Reading)
    if early.t < began + 7:
        counted = [pod.counters for pod in early.programs[case.key].values()]
        assert all(value not in {120, 12} for one in counted for value in one.values())
    query = f'{Metric.SCORE_SAMPLES}{{namespace="{case.key[0]}",revision="{STABLE}"}} == 120'
    wait_until(lambda: prometheus.ask(query), "its time has come")
    await take(walk, reader)
    assert walk.seen == [gained(20, 2)]


async def test_after_an_hour_without_samples_the_bases_of_before_are_found_and_one_look_covers_it(
    prometheus: Prometheus, reader: PrometheusReader, case: Case, show: Show
) -> None:
    prometheus.configure(storage={"tsdb": {"out_of_order_time_window": "3h"}})
    try:
        now = time.time()  # noqa: TID251  pages bear real times
        prometheus.pods.texts[f"/{case.key[0]}/pod-0"] = build_text(Page(100, 10, stamped=-HOUR), 0, now)
        query = f'{MOMENT}{{namespace="{case.key[0]}"}} == 0'
        wait_until(lambda: prometheus.ask(query), "the page of an hour ago is scraped")
        walk = Walk(case)
        before = await reader.read([Interest(case.key)], at=now - HOUR + 5)
        assert isinstance(before, Reading)
        walk.take(before, Moment({"pod-0": None}))
        within = await reader.read([Interest(case.key)], at=now - HOUR / 2)
        assert isinstance(within, Reading)
        walk.take(within, Moment({"pod-0": None}))
        show(Page(160, 16), 1)
        await take(walk, reader)
    finally:
        prometheus.configure()
    assert walk.seen == [unmeasured(f"Prometheus has no series of a pod of {PROGRAM}"), gained(60, 6)]
