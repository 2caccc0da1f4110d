"""`kubectl dspy explain --replay`: the verdicts that come out again, and whether they are the recorded ones. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from dspy_operator.cli.offline.replaying import Decision, Replay
from dspy_operator.cli.views.units import clock
from dspy_operator.rollout.judging import Verdict

LAST = 5
COLUMNS = "{:>5}  {:<20}  {:>4}  {:<8}  {:<20}  {}"


def replay_lines(replay: Replay) -> list[str]:
    """Every look at which the answer changed and the last few, the judge's decisions, and the comparison."""
    heads = COLUMNS.format("LOOK", "AT", "STEP", "ACTION", "REASON", "EVIDENCE (roll back, promote)")
    decided = [f"  {_decision(one)}" for one in replay.decisions]
    return [
        heads,
        *_looks(replay.verdicts),
        "",
        *(["Decided by the judge:", *decided] if decided else ["The judge itself has decided nothing."]),
        *([f"  and {replay.older} before the first look that the record still has"] if replay.older else []),
        "",
        conclusion(replay),
    ]


def conclusion(replay: Replay) -> str:
    """The last line."""
    count = len(replay.verdicts)
    looks = f"{count} look{'' if count == 1 else 's'}"
    if replay.difference:
        return f"{looks}, DIFFERENT: {replay.difference}"
    return f"{looks}, the same verdict at every look"


def build_replay_data(replay: Replay) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "looks": [
            {
                "look": number,
                "t": verdict.t,
                "step": verdict.step,
                "action": verdict.action.value,
                "reason": verdict.reason.value,
                "evidence": {
                    m.name: {"rollback": m.evidence_rollback, "promote": m.evidence_promote}
                    for m in verdict.metrics
                },
            }
            for number, verdict in enumerate(replay.verdicts, 1)
        ],
        "decisions": [
            {
                "number": one.number,
                "at": one.at,
                "reason": one.reason,
                "look": one.look,
                "same": not one.difference,
            }
            for one in replay.decisions
        ],
        "older": replay.older,
        "same": not replay.difference,
        "difference": replay.difference,
    }


def _looks(verdicts: Sequence[Verdict]) -> Iterator[str]:
    before: tuple[Any, ...] = ()
    skipped = 0
    for number, verdict in enumerate(verdicts, 1):
        now = (verdict.step, verdict.action, verdict.reason)
        if now == before and number <= len(verdicts) - LAST:
            skipped += 1
            continue
        if skipped:
            yield f"{'…':>5}  {skipped} more alike"
        skipped, before = 0, now
        evidence = ", ".join(_evidence(verdict))
        yield COLUMNS.format(
            number, clock(verdict.t), verdict.step, verdict.action, verdict.reason, evidence
        ).rstrip()


def _evidence(verdict: Verdict) -> Iterator[str]:
    for metric in verdict.metrics:
        yield f"{metric.name} {max(0.0, metric.evidence_rollback):.2f} {max(0.0, metric.evidence_promote):.2f}"


def _decision(one: Decision) -> str:
    where = f"look {one.look}" if one.look else "no look: the deadline"
    return f"{one.number}  {clock(one.at)}  {one.reason}  " + (
        "DIFFERENT" if one.difference else f"same, {where}"
    )
