"""What earlier attempts say, from their objects."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.operator.reconcile.objects import build_deployment, build_rollout, build_snapshot, revision_of

from dspy_operator.api.defaults import strategy_with_defaults
from dspy_operator.manifests.revisions import RevisionRecord
from dspy_operator.reconcile.history import build_history, build_stock, build_unknown, read_status
from dspy_operator.rollout.model import DeploymentRecord, Past, Phase, Pointer, Stable, Stock

A, B, C = (revision_of(letter) for letter in "abc")
STABLE_B = DeploymentRecord(stable=Stable(B, "b" * 64))


YOUNG = datetime(2026, 11, 23, 10, 1, tzinfo=UTC).timestamp()
"""A minute after the attempts were created."""
LATER = YOUNG + 3600


def see(*rollouts: dict[str, Any], **parts: Any) -> Any:
    return build_snapshot(rollouts=rollouts, **parts)


def as_asked(rollout: dict[str, Any]) -> dict[str, Any]:
    """With the strategy that the spec asks for now."""
    parsed = see().parsed
    assert parsed is not None
    rollout["spec"]["strategy"] = strategy_with_defaults(parsed.spec).to_wire()
    return rollout


def ended(phase: str, at: int) -> dict[str, Any]:
    return {"phase": phase, "finishedAt": f"2026-11-23T11:00:{at:02d}Z"}


def test_the_highest_attempt_of_each_revision_counts() -> None:
    snapshot = see(
        build_rollout("a", "b", 1, **ended("RolledBack", 1)),
        build_rollout("a", "b", 3, **ended("Promoted", 3)),
        build_rollout("a", "c", 2, **ended("Aborted", 2)),
    )
    assert build_history(snapshot, STABLE_B, YOUNG).attempts == {B: 3, C: 2}


def test_previous_are_the_promoted_revisions_other_than_stable_the_newest_first() -> None:
    snapshot = see(
        build_rollout("a", "c", at=1, **ended("Promoted", 1)),
        build_rollout("c", "b", at=2, **ended("Promoted", 2)),
        build_rollout("b", "d", at=3, **ended("RolledBack", 3)),
    )
    assert build_history(snapshot, STABLE_B, YOUNG).previous == (C, A)


def test_the_oldest_attempt_that_never_began_is_pending_one_that_came_late_is_an_orphan() -> None:
    snapshot = see(
        as_asked(build_rollout("a", "b", at=1)),
        as_asked(build_rollout("a", "c", at=2)),
        build_rollout("a", "d", at=3, phase="Preparing"),
    )
    history = build_history(snapshot, DeploymentRecord(), YOUNG)
    assert history.pending is not None
    assert history.pending.to.revision == B
    assert history.orphans == (f"triage-{C}-1",)


def test_an_opening_of_another_strategy_or_of_long_ago_is_not_continued() -> None:
    frozen_before_an_edit = see(build_rollout("a", "b"))
    assert build_history(frozen_before_an_edit, DeploymentRecord(), YOUNG).orphans == (f"triage-{B}-1",)
    assert build_history(frozen_before_an_edit, DeploymentRecord(), YOUNG).pending is None
    fitting = see(as_asked(build_rollout("a", "b")))
    assert build_history(fitting, DeploymentRecord(), YOUNG).orphans == ()
    assert build_history(fitting, DeploymentRecord(), LATER).orphans == (f"triage-{B}-1",)
    assert build_history(fitting, DeploymentRecord(), LATER).pending is None


@pytest.mark.parametrize("phase", ["Stepping", "RollingBack"])
def test_a_lost_attempt_is_kept_for_a_while_and_then_given_up(phase: str) -> None:
    snapshot = see(build_rollout("a", "b", phase=phase), build_rollout("a", "c", **ended("RolledBack", 1)))
    assert build_history(snapshot, STABLE_B, YOUNG).orphans == ()
    assert build_history(snapshot, STABLE_B, LATER).orphans == (f"triage-{B}-1",)
    pointer = Pointer(B, B, 1, f"triage-{B}-1", "uid-b-1")
    assert build_history(snapshot, DeploymentRecord(pointer=pointer), LATER).orphans == ()


def test_the_attempt_that_the_pointer_names_is_not_pending() -> None:
    pointer = Pointer(B, B, 1, f"triage-{B}-1", "uid-b-1")
    history = build_history(see(build_rollout("a", "b")), DeploymentRecord(pointer=pointer), YOUNG)
    assert history.pending is None
    assert history.orphans == ()


def test_an_attempt_of_another_version_is_left_alone() -> None:
    strange = build_rollout("a", "b")
    strange["spec"]["strategy"] = {"dance": True}
    history = build_history(see(strange), DeploymentRecord(), YOUNG)
    assert (history.attempts, history.pending, history.orphans) == ({}, None, ())


def test_nothing_is_known_of_attempts_that_were_not_read() -> None:
    snapshot = build_snapshot(rollouts=None)
    assert build_history(snapshot, STABLE_B, YOUNG).attempts == {}
    assert build_stock(snapshot) == Stock()


def test_the_stock_is_what_is_over_and_what_is_kept_of_it() -> None:
    kept = RevisionRecord(B, "0a1b2c3d", "triage:Triage", "b" * 64, "image", False, "c0de", {}, {})  # noqa: FBT003
    snapshot = see(
        build_rollout("a", "b", **ended("Promoted", 1)),
        build_rollout("b", "c", phase="Stepping"),
        config_maps={
            name: {} for name in ("triage-program-bb", "triage-source-cc", "triage-routes", "other")
        },
        revisions={B: kept},
    )
    stock = build_stock(snapshot)
    (past,) = stock.attempts
    assert [(lost.to, lost.phase) for lost in stock.unfinished] == [(C, Phase.STEPPING)]
    assert past == Past(f"triage-{B}-1", A, B, Phase.PROMOTED, past.ended_at)
    assert stock.copies == {"triage-program-bb", "triage-source-cc"}
    assert stock.digests == {B: ("b" * 64, "c0de")}
    assert (stock.limit, stock.window) == (10, 3)


def test_an_attempt_that_cannot_be_read_is_known_by_its_name_only() -> None:
    rollout = build_unknown({"metadata": {"name": "x", "uid": "u"}, "spec": {"to": {"revision": B}}})
    assert (rollout.name, rollout.uid, rollout.to.revision, rollout.known) == ("x", "u", B, False)


@pytest.mark.parametrize("status", [{"stable": "nonsense"}, {"phase": "Dancing"}])
def test_a_spoiled_status_counts_as_wiped(status: dict[str, Any]) -> None:
    snapshot = build_snapshot()
    broken = type(snapshot)(snapshot.owner, build_deployment(**status), None)
    assert read_status(broken).stable is None
