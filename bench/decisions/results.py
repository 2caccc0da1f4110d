"""Everything that is measured, as independent jobs for a pool of processes, gathered into one record."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.decisions.grid import (
    DROPS,
    MANY_LOOKS,
    SPLITS,
    Cell,
    LongRun,
    Tuned,
    get_curve,
    run_law,
    run_long,
)
from bench.decisions.laws import LAWS
from bench.decisions.others import POINTS, Clusters, ErrorRate, measure_clusters, measure_errors
from bench.decisions.rollouts import (
    LATE,
    RATES,
    WHOLE,
    Forecast,
    Outcome,
    Traffic,
    measure_forecasts,
    measure_traffic,
    run_course,
)
from bench.decisions.scenarios import (
    LATENCIES,
    OUTAGES,
    Latency,
    Outage,
    Split,
    measure_dead_canary,
    measure_latency,
    measure_outage,
    measure_replay,
    measure_split,
)

DEAD = (0.98, 0.999)
SHARES = (0.1, 0.11, 0.13, 0.2)
TRAFFIC_RUNS = 500
WHOLE_TIMES = 4
"""Times as many whole rollouts: shares of 15 % are stated to the point."""

REPLAY_RUNS = 96


@dataclass
class Results:
    """One list a table."""

    cells: list[Cell] = field(default_factory=list)
    tuned: list[Tuned] = field(default_factory=list)
    long: list[LongRun] = field(default_factory=list)
    whole: list[Outcome] = field(default_factory=list)
    late: list[Outcome] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    dead: dict[float, float] = field(default_factory=dict)
    latencies: list[Latency] = field(default_factory=list)
    errors: list[ErrorRate] = field(default_factory=list)
    clusters: list[Clusters] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)
    curves: dict[float, dict[str, list[float]]] = field(default_factory=dict)
    replayed: float = 0.0


Job = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Results, Any], None]]
"""(function, its arguments, where its answer goes)."""


def list_jobs(runs: int, looks: int) -> Iterator[Job]:
    """The longest first, so that two processes end together."""
    for law in ("judge", "five-point", "thumbs", "skewed"):
        yield run_long, (law, runs, looks), lambda r, found: r.long.extend(found)
        for split in SPLITS:
            yield run_law, (law, split, runs), _keep_law
    for rate in RATES:
        for weight in (10, 50):
            for drop in (0.0, 0.1):
                yield (
                    measure_traffic,
                    (rate, weight, drop, min(runs, TRAFFIC_RUNS), looks),
                    lambda r, found: r.traffic.append(found),
                )
    yield measure_replay, (min(runs, REPLAY_RUNS),), _keep_replayed
    yield from _list_small_jobs(runs)


def _list_small_jobs(runs: int) -> Iterator[Job]:
    for law in LAWS:
        yield measure_forecasts, (law, runs), lambda r, found: r.forecasts.extend(found)
    for course in WHOLE:
        yield run_course, (course, WHOLE_TIMES * runs), lambda r, found: r.whole.append(found)
    for course in LATE:
        yield run_course, (course, runs), lambda r, found: r.late.append(found)
    yield from _list_situation_jobs(runs)
    for mean in DEAD:
        yield measure_dead_canary, (mean, runs), partial(_keep_dead, mean)
    for drop in DROPS:
        yield get_curve, ("thumbs", drop, runs), partial(_keep_curve, drop)


def _list_situation_jobs(runs: int) -> Iterator[Job]:
    for order in OUTAGES:
        for drop in (0.0, 0.1):
            yield measure_outage, (order, drop, runs), lambda r, found: r.outages.extend(found)
    for canary, stable in LATENCIES:
        yield measure_latency, (canary, stable, runs), lambda r, found: r.latencies.append(found)
    for points in POINTS:
        yield measure_errors, (points, runs), lambda r, found: r.errors.append(found)
    for size in (1, 2, 5):
        for drop in (0.0, 0.02):
            yield measure_clusters, (size, drop, runs), lambda r, found: r.clusters.append(found)
    for share in SHARES:
        yield measure_split, (share, runs), lambda r, found: r.splits.append(found)


def _keep_law(results: Results, found: tuple[list[Cell], list[Tuned]]) -> None:
    results.cells.extend(found[0])
    results.tuned.extend(found[1])


def _keep_dead(mean: float, results: Results, samples: float) -> None:
    results.dead[mean] = samples


def _keep_curve(drop: float, results: Results, curve: dict[str, list[float]]) -> None:
    results.curves[drop] = curve


def _keep_replayed(results: Results, found: float) -> None:
    results.replayed = found


def measure(runs: int, processes: int, looks: int = MANY_LOOKS) -> Results:
    """All of it: `runs` rollouts a cell; `looks` of the longest trials."""
    results, jobs = Results(), list(list_jobs(runs, looks))
    if processes == 1:
        for function, arguments, keep in jobs:
            keep(results, function(*arguments))
        return results
    with ProcessPoolExecutor(processes) as pool:
        answers = [pool.submit(function, *arguments) for function, arguments, _ in jobs]
        for answer, (_, _, keep) in zip(answers, jobs, strict=True):
            keep(results, answer.result())
    return results
