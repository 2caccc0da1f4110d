"""`python -m tests.simulation --runs 1000000`: as many seeded rollouts as wanted; `--plan FILE` repeats a failure."""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tests.simulation.keeping import explain, read_plan, run_shrunk
from tests.simulation.plan import build_plan
from tests.simulation.run import run

AT_ONCE = 50
"""Seeds that a process takes at a time."""
REPORT_EVERY = 30.0
"""Seconds."""


def main() -> int:
    """Run, say what was broken, end with 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--plan", type=Path, help="repeat the plan of a file, with its whole trace")
    parser.add_argument("--trace", action="store_true", help="print the trace of each run")
    options = parser.parse_args()
    if options.plan is not None:
        return _repeat(options.plan)
    seeds = range(options.seed, options.seed + options.runs)
    with multiprocessing.Pool(options.processes) as pool:
        parts = [seeds[n : n + AT_ONCE] for n in range(0, len(seeds), AT_ONCE)]
        told = pool.imap(partial(run_part, trace=options.trace), parts)
        return report(seeds, zip(parts, told, strict=True))


def _repeat(path: Path) -> int:
    outcome = run(read_plan(path))
    print("\n".join([*outcome.trace, *(outcome.broken or [f"nothing was broken; {outcome.ended}"])]))
    return 1 if outcome.broken else 0


def run_part(seeds: range, *, trace: bool) -> tuple[int, list[str]]:
    """Some seeds in one process: how many were broken, and what is to be said of them."""
    broken, said = 0, []
    for seed in seeds:
        plan = build_plan(seed)
        outcome = run(plan)
        said += outcome.trace if trace else []
        if outcome.broken:
            broken += 1
            said.append(explain(*run_shrunk(plan, outcome)))
    return broken, said


def report(seeds: range, parts: Iterable[tuple[range, tuple[int, list[str]]]]) -> int:
    """Tell what comes, in the order of the seeds, and how far it is: whoever stops it can go on from there."""
    began = told = time.monotonic()
    broken = 0
    for part, (found, said) in parts:
        broken += found
        if said:
            print("\n".join(said), flush=True)
        now, is_last = time.monotonic(), part.stop == seeds.stop
        if is_last or now - told >= REPORT_EVERY:
            told = now
            more = "" if is_last else f"; the next is --seed {part.stop} --runs {seeds.stop - part.stop}"
            done = part.stop - seeds.start
            print(f"{done} of {len(seeds)} rollouts, {broken} broken, {now - began:.0f} s{more}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
