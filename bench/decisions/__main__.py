"""`python -m bench.decisions`: how often good canaries fall and bad ones pass, and how soon.

Prints tables and goals, writes `decisions.json` and two plots into `build/bench/`; status 1 when a goal is
missed. Seeds are fixed: the same numbers on every machine with the same numpy.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from bench.decisions.goals import Goal, list_goals
from bench.decisions.grid import MANY_LOOKS
from bench.decisions.laws import SEED
from bench.decisions.plots import draw_plots
from bench.decisions.report import build_goal_line, list_tables
from bench.decisions.results import Results, measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="rollouts a cell")
    parser.add_argument("--looks", type=int, default=MANY_LOOKS, help="looks of the longest trials")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    results = measure(options.runs, options.processes, options.looks)
    goals = list_goals(results)
    for title, table in list_tables(results):
        print(f"\n{title}\n\n{table}")
    print()
    for goal in goals:
        print(build_goal_line(goal))
    seconds = time.monotonic() - begun
    options.out.mkdir(parents=True, exist_ok=True)
    write(results, goals, options.out / "decisions.json", options.runs, seconds)
    draw_plots(results, options.out)
    print(
        f"{options.runs:,} runs a cell, seed {SEED}, numpy {np.__version__}, {seconds:.0f} s: {options.out}"
    )
    return 0 if all(goal.is_reached for goal in goals) else 1


def write(results: Results, goals: list[Goal], path: Path, runs: int, seconds: float) -> None:
    """Everything measured, as JSON."""
    document = {
        "runs": runs,
        "seed": SEED,
        "numpy": np.__version__,
        "seconds": round(seconds, 1),
        **asdict(results),
        "goals": [{**asdict(goal), "is_reached": goal.is_reached} for goal in goals],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
