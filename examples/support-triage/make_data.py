"""Writes the labelled tickets that the example is compiled and gated with; the same bytes every time."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tickets import build_ticket

HERE = Path(__file__).parent
# Every set has a seed of its own; live traffic uses seeds from 1000 on. Of forty draws the canary set is the
# one where the artifacts of `compile.py` score most like they do over 20,000 tickets.
SETS = {"train": (28, 80), "dev": (29, 200), "canary": (46, 200)}
ADDED = "2026-11-02"  # the day of every line of the canary set


def build_lines(seed: int, rows: int) -> str:
    """The tickets of a set as JSON lines."""
    return "".join(json.dumps(build_ticket(seed, number)) + "\n" for number in range(rows))


def build_gate_lines(seed: int, rows: int) -> str:
    """The tickets of a set in the form of `dspy-server eval`: inputs, gold fields, the day they were added."""
    tickets = (build_ticket(seed, number) for number in range(rows))
    lines = (
        {"inputs": {"ticket": ticket["ticket"]}, "gold": {"queue": ticket["queue"]}, "date": ADDED}
        for ticket in tickets
    )
    return "".join(json.dumps(line) + "\n" for line in lines)


def main() -> None:
    """Write `data/*.jsonl`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "data")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name, (seed, rows) in SETS.items():
        build = build_gate_lines if name == "canary" else build_lines
        (out / f"{name}.jsonl").write_text(build(seed, rows))
        print(f"{out / name}.jsonl: {rows} tickets")


if __name__ == "__main__":
    main()
