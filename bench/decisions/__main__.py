"""`python -m bench.decisions`: how often good canaries fall and bad ones pass, and how soon.

Prints tables and goals, writes `build/bench/decisions.json`. Seeds are fixed: the same numbers on every machine.
"""

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean, median

from bench.decisions.laws import LAWS, build_reference, draw_arm, get_moments
from bench.decisions.rivals import build_rules
from bench.decisions.scenarios import SCENARIOS

LOOKS = 100
SPLITS = {"10/90": (20, 180), "50/50": (20, 20)}
DROPS = (0.0, 0.02, 0.05, 0.10, 0.20)


@dataclass(frozen=True)
class Cell:
    """One law, split, drop and rule over `runs` rollouts; samples are the canary's until the roll-back."""

    law: str
    split: str
    drop: float
    rule: str
    runs: int
    rolled_back: float
    promoted: float
    median_samples: float | None
    mean_samples: float | None
    wald: float | None


def run_cell(arguments: tuple[str, str, float, int]) -> list[Cell]:
    """Every rule on the same streams: until it decides or the looks are over."""
    law_name, split, drop, runs = arguments
    law, (n_c, n_s) = LAWS[law_name], SPLITS[split]
    reference = build_reference(law)
    ends: dict[str, list[tuple[str, int]]] = {name: [] for name in build_rules(reference)}
    for run in range(runs):
        random = Random(f"{law_name} {split} {drop} {run}")
        rules = build_rules(reference)
        for look in range(1, LOOKS + 1):
            arms = (draw_arm(random, law, 1 - drop, n_c), draw_arm(random, law, 1.0, n_s))
            for name, rule in list(rules.items()):
                if rule.is_rolled_back(*arms):
                    ends[name].append(("back", look * n_c))
                    del rules[name]
                elif rule.promotes:
                    ends[name].append(("promoted", look * n_c))
                    del rules[name]
            if not rules:
                break
    wald = get_wald(law_name, drop, n_c / n_s)
    return [
        build_cell(Cell(law_name, split, drop, name, runs, 0, 0, None, None, wald), ends[name])
        for name in ends
    ]


def build_cell(empty: Cell, ends: list[tuple[str, int]]) -> Cell:
    back = [samples for end, samples in ends if end == "back"]
    promoted = sum(end == "promoted" for end, _ in ends)
    return Cell(
        **{
            **asdict(empty),
            "rolled_back": len(back) / empty.runs,
            "promoted": promoted / empty.runs,
            "median_samples": median(back) if back else None,
            "mean_samples": fmean(back) if back else None,
        }
    )


def get_wald(law_name: str, drop: float, odds: float) -> float | None:
    """Wald's bound on the mean canary samples of any test of "drop at most 2 %" at this drop."""
    if drop <= 0.02:
        return None
    (mean_s, var_s), (mean_c, var_c) = get_moments(LAWS[law_name], 1.0), get_moments(LAWS[law_name], 1 - drop)
    distance = 0.98 * mean_s - mean_c
    return 2.65 * 2 * (var_c + 0.98**2 * odds * var_s) / distance**2


def print_cells(cells: list[Cell]) -> None:
    print(
        f"{'law':<11}{'split':<7}{'drop':>5}  {'rule':<15}{'back':>7}{'promoted':>9}{'median':>8}{'/ Wald':>8}"
    )
    for cell in cells:
        samples = "-" if cell.median_samples is None else f"{cell.median_samples:.0f}"
        ratio = "-" if not cell.wald or not cell.mean_samples else f"{cell.mean_samples / cell.wald:.2f}"
        print(
            f"{cell.law:<11}{cell.split:<7}{100 * cell.drop:>4.0f}%  {cell.rule:<15}"
            f"{100 * cell.rolled_back:>6.1f}%{100 * cell.promoted:>8.1f}%{samples:>8}{ratio:>8}"
        )


def list_goals(cells: list[Cell], scenarios: dict[str, float]) -> list[tuple[str, float, float, bool]]:
    """(goal, measured, limit, reached): the table that the documentation states."""
    ours = [cell for cell in cells if cell.rule == "sequential"]
    false_back = max(cell.rolled_back for cell in ours if cell.drop == 0.02)
    passed = max(cell.promoted for cell in ours if cell.drop == 0.10)
    argo = min(cell.rolled_back for cell in cells if cell.rule == "failureLimit 3" and cell.drop == 0)
    clean = max(cell.rolled_back for cell in ours if cell.drop == 0)
    wald = max(get_ratio(cell) for cell in ours if cell.drop == 0.10 and cell.law != "judge")
    judge = max(get_ratio(cell) for cell in ours if cell.drop == 0.10 and cell.law == "judge")
    goals = [
        ("false roll-back at -2 %, worst cell, at most", false_back, 0.05),
        ("roll-back at 0 %, worst cell, at most", clean, 0.01),
        ("promotion of -10 %, worst cell, at most", passed, 0.05),
        ("mean samples / Wald at -10 %, at most", wald, 2.2),
        ("mean samples / Wald at -10 %, judge, at most", judge, 3.5),
        *((f"{name}, at most", value, SCENARIOS[name].limit) for name, value in scenarios.items()),
    ]
    print(f"failureLimit 3 rolls back {100 * argo:.0f} % of equal canaries in its best cell")
    return [(name, value, limit, value <= limit) for name, value, limit in goals]


def get_ratio(cell: Cell) -> float:
    return cell.mean_samples / cell.wald if cell.mean_samples and cell.wald else math.inf


def run_scenario(arguments: tuple[str, int]) -> float:
    name, runs = arguments
    return SCENARIOS[name].measure(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="rollouts a cell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/bench/decisions.json"))
    options = parser.parse_args()
    begun = time.monotonic()
    grid = [(law, split, drop, options.runs) for law in LAWS for split in SPLITS for drop in DROPS]
    with ProcessPoolExecutor(options.processes) as pool:
        cells = [cell for part in pool.map(run_cell, grid) for cell in part]
        names = list(SCENARIOS)
        values = pool.map(run_scenario, [(name, options.runs) for name in names])
        scenarios = dict(zip(names, values, strict=True))
    print_cells(cells)
    goals = list_goals(cells, scenarios)
    for name, value, limit, reached in goals:
        print(f"{'reached' if reached else 'MISSED ':<8} {name} {limit:g}: {value:.4g}")
    seconds = time.monotonic() - begun
    print(f"{options.runs} runs a cell, {seconds:.0f} s")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "runs": options.runs,
        "seconds": seconds,
        "cells": [asdict(cell) for cell in cells],
        "goals": [dict(zip(("goal", "measured", "limit", "reached"), goal, strict=True)) for goal in goals],
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
