"""`python -m tests.simulation --runs 1000000`: as many seeded rollouts as wanted; `--plan FILE` repeats a failure."""

import argparse
import time
from pathlib import Path

from tests.simulation.keeping import explain, read_plan, run_shrunk
from tests.simulation.plan import build_plan
from tests.simulation.run import run

REPORT_EVERY = 1000


def main() -> int:
    """Run, say what was broken, end with 1 if anything was."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--plan", type=Path, help="repeat the plan of a file, with its whole trace")
    parser.add_argument("--trace", action="store_true", help="print the trace of each run")
    options = parser.parse_args()
    if options.plan is not None:
        return _repeat(options.plan)
    return _run_seeds(options.seed, options.runs, trace=options.trace)


def _repeat(path: Path) -> int:
    outcome = run(read_plan(path))
    print("\n".join([*outcome.trace, *(outcome.broken or [f"nothing was broken; {outcome.ended}"])]))
    return 1 if outcome.broken else 0


def _run_seeds(first: int, runs: int, *, trace: bool) -> int:
    began, broken = time.monotonic(), 0
    for number in range(runs):
        plan = build_plan(first + number)
        outcome = run(plan)
        if trace:
            print("\n".join(outcome.trace))
        if outcome.broken:
            broken += 1
            print(explain(*run_shrunk(plan, outcome)), flush=True)
        if (number + 1) % REPORT_EVERY == 0 or number + 1 == runs:
            passed = time.monotonic() - began
            print(f"{number + 1} rollouts, {broken} broken, {passed:.0f} s", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
