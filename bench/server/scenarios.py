"""What is measured: CPU a request side by side, then swaps, overload, memory and the start, each on its own."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.server.load import Answers, ask_closed, ask_new, ask_open
from bench.server.pods import Pod, open_pod
from bench.server.processes import Served, read_json

CLIENTS = 16
WARM_UP = 200
LARGE = 8192
"""Characters of the questions that memory is measured with."""


@dataclass(frozen=True)
class Cost:
    """One round of one server: requests a CPU second, CPU milliseconds a request, milliseconds until the answer."""

    rps: float
    cpu_ms: float
    p50: float
    p95: float


async def measure_cost(served: Served, build: Callable[[], str], seconds: float) -> Cost:
    """16 questions at a time for so many seconds."""
    await ask_closed(served.url, build, clients=CLIENTS, requests=WARM_UP)
    before = served.get_cpu_seconds()
    answers = await ask_closed(served.url, build, clients=CLIENTS, seconds=seconds)
    cpu = served.get_cpu_seconds() - before
    check(served, answers)
    count = answers.statuses[200]
    return Cost(
        count / cpu,
        1000 * cpu / count,
        1000 * answers.get_percentile(0.5),
        1000 * answers.get_percentile(0.95),
    )


def check(served: Served, answers: Answers) -> None:
    """A round in which requests fail measures nothing."""
    if answers.failed:
        raise RuntimeError(f"{served.name}: {answers.failed} requests failed: {dict(answers.statuses)}")


@dataclass(frozen=True)
class Swaps:
    """Tables under load: seconds until each was in force, failed requests, p99 meanwhile ÷ before."""

    delays: list[float]
    failed: int
    slowdown: float
    load: float

    @property
    def worst(self) -> float:
        """Seconds of the slowest swap."""
        return max(self.delays)

    @property
    def median(self) -> float:
        """Seconds of the swap in the middle."""
        return statistics.median(self.delays)


async def measure_swaps(pod: Pod, served: Served, *, swaps: int = 40) -> Swaps:
    """Weights that change every quarter of a second, then one new program of 20 KB, all under load."""
    quiet = await ask_closed(served.url, ask_new(), clients=4, seconds=5)
    delays: list[float] = []

    async def swap() -> None:
        for number in range(swaps):
            delays.append(await apply_table(pod, served, {0: 90 - number % 80, 1: 10 + number % 80}))
            await asyncio.sleep(0.25)

    swapping = asyncio.create_task(swap())
    busy = await ask_closed(served.url, ask_new(), clients=4, seconds=5)
    await swapping
    pod.fill_slot(2, demos=80)
    load = await apply_table(pod, served, {0: 90, 2: 10})
    failed = quiet.failed + busy.failed
    return Swaps(delays, failed, busy.get_percentile(0.99) / quiet.get_percentile(0.99), load)


async def apply_table(pod: Pod, served: Served, weights: dict[int, int]) -> float:
    """Write a table; seconds until the server answers by it, all its programs loaded."""
    began, generation = time.perf_counter(), pod.write_table(weights)
    while True:
        version = await asyncio.to_thread(read_json, f"{served.url}/version")
        if version["generation"] == generation and all(route["loaded"] for route in version["routes"]):
            return time.perf_counter() - began
        if time.perf_counter() - began > 30:
            raise RuntimeError(f"the table was not taken: {version}")
        await asyncio.sleep(0.005)


async def measure_overload(served: Served, *, slots: int, latency: float) -> float:
    """Answers a second at ten times what the slots can do ÷ what they can do."""
    await ask_closed(served.url, ask_new(), clients=slots, requests=slots)
    alone = await ask_closed(served.url, ask_new(), clients=slots, seconds=5)
    check(served, alone)
    capacity = alone.statuses[200] / alone.elapsed
    flood = await ask_open(served.url, ask_new(), rate=10 * slots / latency, seconds=10)
    return flood.statuses[200] / flood.elapsed / capacity


async def measure_memory(served: Served, requests: int) -> float:
    """KiB that each of so many requests of 8 KB leaves behind, after 5,000."""
    check(served, await ask_closed(served.url, ask_new(LARGE), clients=CLIENTS, requests=5000))
    before = served.get_rss_kib()
    check(served, await ask_closed(served.url, ask_new(LARGE), clients=CLIENTS, requests=requests))
    return (served.get_rss_kib() - before) / requests


def profile(root: Path, provider: str, seconds: float) -> Path:
    """Run the server under the profiler while it answers new questions; the profile's file."""
    pod, file = open_pod(root, provider), root / "profile"
    served = pod.start("profiled", command=("-m", "bench.server.profiled", str(file)))
    try:
        asyncio.run(ask_closed(served.url, ask_new(), clients=CLIENTS, seconds=seconds))
    finally:
        served.end()
    return file
