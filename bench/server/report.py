"""The table, the goals, where the time goes, the JSON file."""

import json
import os
import platform
import pstats
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.goal import Goal
from bench.server.scenarios import Cost, Swaps


@dataclass(frozen=True)
class Results:
    """All of one run; `costs` has the rounds of each server by its name."""

    costs: Mapping[str, Sequence[Cost]]
    swaps: Swaps
    goodput: float
    kept_kib: float
    requests: int
    rss_mib: float
    start: float

    def get_cpu(self, name: str) -> float:
        """CPU milliseconds a request: the median of the rounds."""
        return statistics.median(cost.cpu_ms for cost in self.costs[name])

    def list_goals(self) -> list[Goal]:
        """What the design asks for."""
        miss = self.get_cpu("miss")
        return [
            Goal(
                "times the requests a core of default DSPy", self.get_cpu("default") / miss, 2.0, above=True
            ),
            Goal("times those of LiteLLM's engine", self.get_cpu("litellm") / miss, 4.0, above=True),
            Goal("CPU of a cache hit ÷ default miss", self.get_cpu("hit") / self.get_cpu("default"), 0.2),
            Goal("CPU with two programs ÷ with one", self.get_cpu("two programs") / miss, 1.1),
            Goal("seconds to swap a table under load, at worst", self.swaps.worst, 0.2),
            Goal("requests failed during swaps", self.swaps.failed, 0),
            Goal("p99 during swaps ÷ before", self.swaps.slowdown, 1.2),
            Goal("seconds from a table to a new 20 KB program's traffic", self.swaps.load, 0.5),
            Goal("of capacity answered at ten times the load", self.goodput, 0.9, above=True),
            Goal(f"KiB kept a request of 8 KB over {self.requests:,}", self.kept_kib, 0.1),
            Goal("MiB resident after that", self.rss_mib, 200),
            Goal("seconds from the process's start to ready", self.start, 6),
        ]


def print_report(results: Results) -> None:
    """For a person."""
    print(f"{'':14} {'CPU ms':>16} {'requests a core':>16} {'p50 ms':>8} {'p95 ms':>8}")
    for name, rounds in results.costs.items():
        cpu = sorted(cost.cpu_ms for cost in rounds)
        print(
            f"{name:14} {results.get_cpu(name):6.2f} ({cpu[0]:.2f}-{cpu[-1]:.2f})"
            f" {1000 / results.get_cpu(name):12.0f} {_get_median(rounds, 'p50'):8.1f} {_get_median(rounds, 'p95'):8.1f}"
        )
    for goal in results.list_goals():
        side = "at least" if goal.above else "at most"
        print(f"{goal.value:9.3f} {goal.name} ({side} {goal.limit:g}): {goal.verdict}")


def _get_median(rounds: Sequence[Cost], name: str) -> float:
    return float(statistics.median(getattr(cost, name) for cost in rounds))


def print_profile(file: Path) -> None:
    """Each package's share of the time that the server spends in its own lines, and the costliest functions."""
    stats: Mapping[tuple[str, int, str], Any] = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # untyped
    own: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (path, _, name), (_, _, seconds, _, _) in stats.items():
        if "poll" in name or "epoll" in name:
            continue  # waiting
        own[get_package(path)] += seconds
        functions[f"{get_package(path)}: {name}"] += seconds
    total = sum(own.values())
    print("where the time goes (under the profiler, waiting left out):")
    for package, seconds in own.most_common(12):
        print(f"  {seconds / total:6.1%} {package}")
    for function, seconds in functions.most_common(8):
        print(f"  {seconds / total:6.1%} {function}")


def get_package(path: str) -> str:
    """The package that a source file belongs to."""
    for mark in ("/site-packages/", "/src/", "/lib/python3"):
        if mark in path:
            rest = path.rpartition(mark)[2].split("/")
            return rest[0] if mark != "/lib/python3" else f"python: {rest[1].removesuffix('.py')}"
    return "python: built-in" if path == "~" else Path(path).stem


def write_report(results: Results, file: Path) -> None:
    """All numbers as JSON, with the machine's facts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "kernel": platform.release()}
    goals = [asdict(goal) | {"met": goal.is_met} for goal in results.list_goals()]
    file.write_text(
        json.dumps({"machine": machine, "results": asdict(results), "goals": goals}, indent=2) + "\n"
    )
