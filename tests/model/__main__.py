"""The model check from the command line: `python -m tests.model [--deep] [--mutants] [--only NAME] [--most N]`.

Prints states, edges, seconds and the longest way to rest of each check; of a broken rule the shortest run to it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import pytest
from tests.model.checker import Checker, Result
from tests.model.convergence import measure
from tests.model.mutants import MUTANTS, find
from tests.model.worlds import CHECKS, DEEP, OWN_PODS, Check

Figures = dict[str, str | int | float]

EVERY = 60.0
"""Seconds between two lines about a check that runs."""


class Progress:
    """A line a minute: how far a check is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = self._told = time.monotonic()

    def tell(self, looked: int, left: int) -> None:
        """`left` are known and wait; while a check goes on they become more."""
        now = time.monotonic()
        if now - self._told >= EVERY:
            self._told = now
            print(f"  {self._what}: {looked:,}, {left:,} wait, {now - self._began:.0f} s", flush=True)


def run_check(check: Check, most: int) -> tuple[bool, Figures]:
    """One check, told to a person; whether all is well, and its figures."""
    result = Checker(check.start, check.bounds, check.rules).run(most=most, progress=Progress("states").tell)
    print(f"{check}: {result}", flush=True)
    figures: Figures = {
        "check": check.name,
        "states": result.states,
        "edges": result.edges,
        "seconds": round(result.seconds, 1),
        "broken": result.broken,
    }
    return not result.broken and run_convergence(result, figures), figures


def run_convergence(result: Result, figures: Figures) -> bool:
    """L1 and L3 from every state that was reached."""
    began = time.process_time()
    found = measure(result.list_reached(), Progress("clusters").tell)
    seconds = time.process_time() - began
    print(f"  {found} ({seconds:.1f} s of CPU)", flush=True)
    figures |= {"writes_to_rest": found.writes, "writes_to_safety": found.until_safe}
    figures |= {"writes_to_safety_after_takeover": found.until_safe_after_takeover}
    return not found.broken


def run_mutants() -> bool:
    """Every mutant as a line of a Markdown table."""
    print("| fault | found by | steps | states |\n|---|---|---|---|")
    well = True
    for mutant in MUTANTS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            mutant.patch(monkeypatch)
            result = find(mutant)
        well = well and result.rule == mutant.rule
        steps = len(result.trace) or "never"
        print(f"| {mutant} | {result.rule or 'NOTHING'} | {steps} | {result.states:,} |", flush=True)
    return well


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "--deep", action="store_true", help="the longer checks: minutes, and gigabytes of memory"
    )
    parser.add_argument("--mutants", action="store_true", help="the faults made by hand, as a table")
    parser.add_argument("--only", default="", help="checks whose name contains this")
    parser.add_argument("--most", type=int, default=10_000_000, help="states after which a check ends early")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    if args.mutants:
        return 0 if run_mutants() else 1
    checks = [check for check in (DEEP if args.deep else (*CHECKS, *OWN_PODS)) if args.only in check.name]
    results = [run_check(check, args.most) for check in checks]
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([figures for _, figures in results], indent=2) + "\n")
    return 0 if results and all(well for well, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
