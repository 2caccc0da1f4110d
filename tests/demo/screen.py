"""How the story is told: plain lines, one for each thing that happens, with the seconds since it began.

Nothing is drawn over, so that it reads the same on a screen, in a pipe and in a log.
"""

from __future__ import annotations

import os
import sys
import textwrap
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.harness.views import Measured, Rollout

WIDTH = 110
CELLS = 20
PROMOTE, ROLL_BACK = "▲", "▼"
LEGEND = f"{PROMOTE} is evidence for promoting, {ROLL_BACK} for rolling back; 1.00 decides"
COLORS = {"good": "32", "bad": "31", "head": "1", "dim": "2"}


@dataclass
class Screen:
    """Tells; safe to use from the thread that watches."""

    began: float = field(default_factory=time.monotonic)
    is_color: bool = field(
        default_factory=lambda: sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.name != "nt"
    )

    def get_seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self.began

    def say(self, text: str = "", style: str = "") -> None:
        """One line, with the time before it."""
        stamp = f"{self.get_seconds():6.1f} s  " if text else ""
        body = textwrap.wrap(text, WIDTH - len(stamp)) if text else [""]
        indent = " " * len(stamp)
        lines = [(stamp if number == 0 else indent) + line for number, line in enumerate(body)]
        print("\n".join(self.paint(line, style) for line in lines), flush=True)

    def head(self, text: str) -> None:
        """The beginning of an act."""
        print(flush=True)
        print(self.paint(text, "head"), flush=True)

    def plain(self, text: str, style: str = "") -> None:
        """Lines without the time."""
        print(self.paint(text, style), flush=True)

    def paint(self, text: str, style: str) -> str:
        """In color, where there is color."""
        return f"\x1b[{COLORS[style]}m{text}\x1b[0m" if style and self.is_color else text


def draw_bar(share: float, cells: int = CELLS) -> str:
    """`████░░░░` for a share of 0 to 1."""
    full = round(min(max(share, 0.0), 1.0) * cells)
    return "█" * full + "░" * (cells - full)


def draw_evidence(rollout: Rollout) -> str:
    """The weight, and of each metric the estimate and the stronger of its two kinds of evidence; 1.00 decides."""
    metrics = "   ".join(tell_metric(metric) for metric in rollout.metrics.values())
    score = rollout.metrics.get("score")
    samples = f"   on {score.canary} and {score.stable} scores" if score else ""
    return f"{rollout.weight:3} % {draw_bar(rollout.weight / 100, 10)}  {metrics}{samples}"


def tell_metric(metric: Measured) -> str:
    """`score better by 17% ▲0.61`: the evidence is for promoting (▲) or for rolling back (▼)."""
    sign, evidence = max((PROMOTE, metric.promote), (ROLL_BACK, metric.rollback), key=lambda pair: pair[1])
    estimate = f" {tell_change(metric.drop)}" if metric.name == "score" and metric.drop else ""
    return f"{metric.name}{estimate} {sign}{evidence:.2f}"


def tell_change(drop: str) -> str:
    """A drop in words: `1.2%` is worse, `-1.2%` better."""
    return f"better by {drop[1:]}" if drop.startswith("-") else f"worse by {drop}"
