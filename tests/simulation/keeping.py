"""Plan files: a failure as JSON that names seed, faults, acts, broken invariant and trace, and can be repeated.

Written by `__main__.py` and the tests, read by `python -m tests.simulation --plan FILE`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.simulation.plan import Plan
from tests.simulation.run import Outcome, run

DIRECTORY: Final = Path("build/simulation")


def get_invariant(outcome: Outcome) -> str:
    """The name of what was broken first; empty if nothing was."""
    return outcome.broken[0].split()[0] if outcome.broken else ""


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """The plan without all that is not needed to fail."""
    for candidate in _list_smaller(plan):
        if fails(candidate):
            return shrink(candidate, fails)
    return plan


def _list_smaller(plan: Plan) -> list[Plan]:
    smaller = [replace(plan, faults=plan.faults[:n] + plan.faults[n + 1 :]) for n in range(len(plan.faults))]
    smaller += [replace(plan, acts=plan.acts[:n] + plan.acts[n + 1 :]) for n in range(1, len(plan.acts))]
    simpler = [replace(plan, standby=False), replace(plan, queue=False), replace(plan, unfit="")]
    return smaller + [candidate for candidate in simpler if candidate != plan]


def write_plan(plan: Plan, outcome: Outcome, directory: Path = DIRECTORY) -> Path:
    """The file that repeats a failure."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{get_invariant(outcome) or 'calm'}-{plan.seed}.json"
    content = {
        "seed": plan.seed,
        "broken": outcome.broken,
        "plan": plan.to_json(),
        "digest": outcome.digest,
        "trace": outcome.trace,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read_plan(path: Path) -> Plan:
    """The plan of a file."""
    return Plan.from_json(json.loads(path.read_text())["plan"])


def explain(plan: Plan, outcome: Outcome) -> str:
    """For people: what was broken, by what, how to repeat it, what happened."""
    path = write_plan(plan, outcome)
    faults = ", ".join(f"{fault.kind} {fault.at:g}-{fault.until:g}" for fault in plan.faults) or "none"
    acts = ", ".join(f"{act.at:g} {act.kind} {act.argument}".strip() for act in plan.acts)
    lines = [
        *outcome.broken,
        f"seed {plan.seed}; faults: {faults}; acts: {acts}",
        f"repeat it: python -m tests.simulation --plan {path}",
        *outcome.trace[-TOLD:],
    ]
    return "\n".join(lines)


TOLD: Final = 40
"""Lines of a trace that people are shown; the file has all of them."""


def run_shrunk(plan: Plan, outcome: Outcome) -> tuple[Plan, Outcome]:
    """The smallest plan that breaks the same invariant, and what comes of it."""
    invariant = get_invariant(outcome)
    small = shrink(plan, lambda candidate: get_invariant(run(candidate)) == invariant)
    return small, run(small)
