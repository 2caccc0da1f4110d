"""`python -m bench.server`: what a request costs here, beside default DSPy and LiteLLM, in one run on one core.

The server that is measured has core 0 for itself; the clients and the constant LM share the other.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.server import scenarios
from bench.server.load import ask_new, ask_same
from bench.server.pods import open_pod
from bench.server.processes import OTHER_CORE, Served, start
from bench.server.report import Results, print_profile, print_report, write_report
from bench.server.scenarios import Cost
from tests.cluster.debian import debian_program
from tests.servers import get_free_port

BUILD = Path("build/bench")
REFERENCES = ("noop", "litellm", "default", "catalogue")
SLOTS, LATENCY = 8, 0.5


def main() -> None:
    """Measure; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.server", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each server, interleaved; default: 3")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round; default: 6")
    parser.add_argument("--requests", type=int, default=100_000, help="that memory is measured over")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory(prefix="dspy-bench-") as directory, ExitStack() as stack:
        root = Path(directory)
        provider = start_provider(root, stack)
        costs = measure_costs(root, provider, options.rounds, options.seconds)
        results = measure_rest(root, provider, stack, costs, options.requests)
        file = scenarios.profile(root / "profiled", provider, options.seconds)
        print_report(results)
        print_profile(file)
    write_report(results, BUILD / "server.json")
    sys.exit(0 if all(goal.is_met for goal in results.list_goals()) else 1)


def start_provider(root: Path, stack: ExitStack, delay: float = 0.0) -> str:
    """The constant LM's address."""
    port, log = get_free_port(), root / f"provider-{delay}.log"
    command = ["-m", "bench.server.provider", str(port), str(delay)]
    served = start("provider", command, port, core=OTHER_CORE, log=log)
    stack.callback(served.end)
    return served.url


def measure_costs(root: Path, provider: str, rounds: int, seconds: float) -> dict[str, list[Cost]]:
    """CPU a request of all servers, one after the other, again and again."""
    costs: dict[str, list[Cost]] = {}
    with ExitStack() as stack:
        redis = start_redis(root, stack)
        servers = [(name, start_reference(root, name, provider)) for name in REFERENCES]
        one, two = (
            open_pod(root / name, provider, programs=programs, redis=redis).start(name)
            for name, programs in (("one", 1), ("two", 2))
        )
        servers += [("miss", one), ("hit", one), ("two programs", two)]
        for served in {served for _, served in servers}:
            stack.callback(served.end)
        for _ in range(rounds):
            for name, served in servers:
                build = ask_same if name == "hit" else ask_new()
                cost = asyncio.run(scenarios.measure_cost(served, build, seconds))
                costs.setdefault(name, []).append(cost)
                say(f"{name}: {cost.cpu_ms:.2f} CPU ms a request")
    return costs


def start_redis(root: Path, stack: ExitStack) -> str:
    """A real Redis, from Debian's package; its address."""
    port, program = get_free_port(), str(debian_program("redis-server"))
    command = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    log = root / "redis.log"
    stack.callback(start("redis", command, port, core=OTHER_CORE, program=program, log=log).end)
    return f"redis://127.0.0.1:{port}/0"


def start_reference(root: Path, name: str, provider: str) -> Served:
    """A plain endpoint over DSPy; its disk cache is below `root`."""
    port, env = get_free_port(), {"DSPY_CACHEDIR": str(root / f"cache-{name}")}
    command = ["-m", "bench.server.references", name, str(port), provider]
    return start(name, command, port, env=env, log=root / f"{name}.log")


def measure_rest(
    root: Path, provider: str, stack: ExitStack, costs: dict[str, list[Cost]], requests: int
) -> Results:
    """Swaps, overload, memory and the start."""
    pod = open_pod(root / "swaps", provider, programs=2)
    served = pod.start("swaps")
    stack.callback(served.end)
    swaps = asyncio.run(scenarios.measure_swaps(pod, served))
    say(f"{len(swaps.delays)} swaps: median {swaps.median:.3f} s, worst {swaps.worst:.3f} s")
    slow = open_pod(root / "slow", start_provider(root, stack, LATENCY)).start(
        "slow", concurrency=SLOTS, queue=SLOTS
    )
    stack.callback(slow.end)
    goodput = asyncio.run(scenarios.measure_overload(slow, slots=SLOTS, latency=LATENCY))
    say(f"overload: {goodput:.0%} of capacity")
    large = open_pod(root / "memory", provider, programs=2).start("memory")
    stack.callback(large.end)
    kept = asyncio.run(scenarios.measure_memory(large, requests))
    say(f"memory: {kept:.3f} KiB a request kept")
    return Results(costs, swaps, goodput, kept, requests, large.get_rss_kib() / 1024, served.started)


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main()
