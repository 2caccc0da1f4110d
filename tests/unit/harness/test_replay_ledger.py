"""The stories' own check: what was replayed is counted once, what differs is named."""

import json
from typing import Any

from tests.e2e.harness.replay import Ledger
from tests.unit.operator.judging.rollouts import SCORE, build_config, build_score_look

from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import Action, Reference


def build_rollout(uid: str, canary: float, looks: int) -> dict[str, Any]:
    """An attempt as the API server has it, judged up to its end or so many looks."""
    analysis = Analysis.start(build_config(SCORE), {"score": Reference(0.8, 0.04)}, 0.0)
    decisions: list[dict[str, Any]] = []
    for number in range(1, looks + 1):
        analysis, verdict = analysis.judge(build_score_look(30.0 * number, canary))
        if verdict.action is Action.ROLL_BACK:
            entry = {"phase": "RollingBack", "step": 1, "number": 3, "at": "2027-01-15T08:00:00Z"}
            decisions.append(entry | {"reason": str(verdict.reason), "message": verdict.message})
            break
    status = {"looks": analysis.to_text(), "decisions": decisions}
    return {"metadata": {"name": f"rollout-{uid}", "uid": uid}, "status": status}


def test_each_attempt_counts_once_with_its_latest_looks() -> None:
    ledger = Ledger()
    assert ledger.replay([build_rollout("a", 0.8, 2)]) == []
    assert ledger.replay([build_rollout("a", 0.8, 3), build_rollout("b", 0.2, 9)]) == []
    last = json.loads(build_rollout("b", 0.2, 9)["status"]["looks"])
    expected = 3 + len(last["events"])
    assert ledger.tell() == f"2 rollouts replayed, {expected} looks, 1 decisions by the judge, 0 differences"


def test_an_attempt_that_was_never_judged_counts_not_at_all() -> None:
    ledger = Ledger()
    assert ledger.replay([{"metadata": {"name": "n", "uid": "u"}, "status": {}}, {"metadata": {}}]) == []
    assert ledger.tell().startswith("0 rollouts replayed, 0 looks")


def test_a_difference_is_named_and_counted() -> None:
    rollout = build_rollout("b", 0.2, 9)
    rollout["status"]["decisions"][0]["message"] = "score -1.0 % on 9 of 50 samples"
    ledger = Ledger()
    (said,) = ledger.replay([rollout])
    assert said.startswith("rollout-b: decision 3: status says EvidenceOfRegression")
    assert ledger.tell().endswith("1 differences")


def test_a_record_that_cannot_be_read_is_a_difference() -> None:
    rollout = build_rollout("a", 0.8, 2)
    rollout["status"]["looks"] = "{"
    ledger = Ledger()
    assert len(ledger.replay([rollout])) == 1
