"""The lines of the demo: no terminal, no color, the same words each time."""

from __future__ import annotations

import pytest
from tests.demo.screen import Screen, draw_bar, draw_evidence, tell_change
from tests.e2e.harness.views import read_rollout

ROLLOUT = {
    "metadata": {
        "name": "support-triage-81c0e7b2a9-1",
        "uid": "1",
        "creationTimestamp": "2026-11-23T09:58:00Z",
    },
    "spec": {
        "attempt": 1,
        "fast": False,
        "from": {"version": "aaaaaaaaaaaa", "revision": "3f9a12c4d5"},
        "to": {"version": "bbbbbbbbbbbb", "revision": "81c0e7b2a9"},
    },
    "status": {
        "phase": "Stepping",
        "step": 1,
        "weight": 10,
        "metrics": [
            {
                "name": "score",
                "verdict": "Wait",
                "drop": "-15.4%",
                "samples": {"canary": 24, "stable": 156},
                "evidence": {"rollback": "0.00", "promote": "0.57"},
            },
            {
                "name": "latency",
                "verdict": "RollBack",
                "drop": "70.2 points",
                "evidence": {"rollback": "1.03", "promote": "0.00"},
            },
            {"name": "errors", "verdict": "Unmeasured"},
        ],
    },
}


def test_a_line_of_evidence_shows_the_weight_and_the_stronger_side_of_each_metric() -> None:
    assert draw_evidence(read_rollout(ROLLOUT)) == (
        " 10 % █░░░░░░░░░  score better by 15.4% ▲0.57   latency ▼1.03   errors ▲0.00   on 24 and 156 scores"
    )


@pytest.mark.parametrize(
    ("share", "bar"), [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (1.7, "████"), (-1, "░░░░")]
)
def test_a_bar_is_as_long_as_its_cells_whatever_the_share(share: float, bar: str) -> None:
    assert draw_bar(share, 4) == bar


def test_a_drop_is_told_as_better_or_worse() -> None:
    assert tell_change("1.2%") == "worse by 1.2%"
    assert tell_change("-1.2%") == "better by 1.2%"


def test_without_a_terminal_there_is_no_color_and_long_lines_are_indented(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen()
    screen.say("word " * 40, "good")
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "\x1b" not in first
    assert first.lstrip().split(" ")[1] == "s"
    assert second.startswith(" " * 10)
    assert max(len(first), len(second)) <= 110
