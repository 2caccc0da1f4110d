"""`python -m bench.operator`: what the operator costs with N canaries that idle at 10 %.

A real API server, a real Prometheus, the operator's real process; only the pods are simulated.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.operator.fleet import Fleet, wait_until
from bench.operator.kubelet import Kubelet, serve_metrics
from bench.operator.measuring import Figures, compare, mark
from bench.operator.plane import Plane, end_gracefully, run_plane
from bench.operator.report import list_goals, print_profile, print_report, write_report

from dspy_operator.kube.client import Client

BUILD = Path("build/bench")
SETTLE = 3.0
"""Seconds that each rollout may take to be set up, one after the other."""


def main() -> None:
    """Measure each number of rollouts; exit 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[50, 200], help="default: 50 200")
    parser.add_argument("--minutes", type=float, default=3.0, help="measured, after a minute of warm-up")
    parser.add_argument("--scrape", type=float, default=10.0, help="Prometheus' scrape interval in seconds")
    parser.add_argument("--profile", action="store_true", help="profile the operator in its steady state")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is ended and removed
    runs = []
    for rollouts in options.rollouts:
        with (
            tempfile.TemporaryDirectory(prefix="dspy-bench-") as directory,
            run_plane(Path(directory), options.scrape) as plane,
        ):
            figures = asyncio.run(measure(plane, rollouts, options.minutes, profiled=options.profile))
            runs.append(figures)
            if options.profile:
                print_profile(plane.profile)
        write_report(runs, BUILD / "operator.json")
    print_report(runs)
    sys.exit(0 if all(goal.is_met for run in runs for goal in list_goals(run)) else 1)


async def measure(plane: Plane, rollouts: int, minutes: float, *, profiled: bool) -> Figures:
    """Bring N canaries to 10 %, wait a minute, then measure."""
    client = await Client.from_environment(kubeconfig=str(plane.control.kubeconfig))
    fleet, kubelet = Fleet(client, rollouts), Kubelet(plane, client)
    exporter = serve_metrics(plane.ports["pods"], kubelet.list_pods)
    following: asyncio.Task[None] | None = None
    try:
        await fleet.prepare()
        following = asyncio.create_task(kubelet.run())
        plane.start_operator()
        await set_up(plane, fleet)
        if profiled:
            await asyncio.to_thread(end_gracefully, plane)
            plane.start_operator(profiled=True)
            await asyncio.sleep(60)
        return await _measure(plane, rollouts, minutes, following, profiled=profiled)
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await asyncio.to_thread(exporter.shutdown)
        exporter.server_close()
        await client.close()


async def set_up(plane: Plane, fleet: Fleet) -> None:
    """Stable everywhere, some history, then a canary everywhere that has been judged once."""
    size, patience = fleet.size, 120 + SETTLE * fleet.size

    async def wait(count: Callable[[], Awaitable[int]], what: str) -> None:
        began = mark(plane)

        async def is_done() -> bool:
            plane.find_operator()
            return await count() >= size

        seconds = await wait_until(is_done, what, patience)
        cost = compare(plane, began, mark(plane), size)
        say(
            f"{size} {what} after {seconds:.0f} s: {cost.cpu_seconds * cost.minutes / size:.2f} CPU s and "
            f"{cost.request_total * cost.minutes / size:.0f} requests each, "
            f"{cost.queries * cost.minutes:.0f} queries in all"
        )

    await fleet.create_stable()
    await wait(fleet.count_stable, "stable revisions serve")
    await asyncio.sleep(30)
    await fleet.open_canaries()
    await wait(fleet.count_canaries, "canaries at 10 %")
    await wait(fleet.count_looks, "canaries are judged")


async def _measure(
    plane: Plane, rollouts: int, minutes: float, following: asyncio.Task[None], *, profiled: bool
) -> Figures:
    before = mark(plane)
    await asyncio.wait([following], timeout=60 * minutes)
    if following.done():
        following.result()
    figures = compare(plane, before, mark(plane), rollouts)
    say(f"{rollouts} rollouts measured for {figures.minutes:.1f} min")
    if profiled:
        await asyncio.to_thread(end_gracefully, plane)
    return figures


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    main()
