"""A ControllerRevision that somebody deleted: what it said is found where else it is written, or nowhere."""

from dataclasses import replace
from typing import Any

from tests.unit.operator.reconcile.objects import build_deployment, build_given, build_snapshot

from dspy_operator.manifests.revisions import RevisionRecord
from dspy_operator.reconcile.memory import Memory
from dspy_operator.reconcile.observe import (
    build_observation,
    build_revision_record,
    find_revision_record,
    get_program,
)
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.revision import revision_hash

IMAGE = "server:1"


def build_record(letter: str, **spec: Any) -> RevisionRecord:
    """What the spec of program `aaa…`, with these changes, is."""
    deployment = build_deployment()
    deployment["spec"]["program"]["artifact"]["sha256"] = letter * 64
    deployment["spec"] |= spec
    return build_revision_record(build_snapshot(deployment=deployment, source=_no_code()), IMAGE)


def _no_code() -> Any:
    return replace(build_snapshot().source, digest="")


def build_lost(stable: RevisionRecord, *kept: RevisionRecord, letter: str = "b", **spec: Any) -> Snapshot:
    """Stable without its ControllerRevision; the spec asks for another program."""
    status = {"stable": {"revision": stable.revision, "sha256": stable.sha256, "version": stable.sha256[:12]}}
    deployment = build_deployment(**status)
    deployment["spec"]["program"]["artifact"]["sha256"] = letter * 64
    deployment["spec"] |= spec
    revisions = {record.revision: record for record in kept}
    return build_snapshot(deployment=deployment, source=_no_code(), revisions=revisions)


def find(snapshot: Snapshot, lost: RevisionRecord) -> RevisionRecord | None:
    return find_revision_record(snapshot, IMAGE, lost.revision, lost.sha256)


OTHER = {"lm": {"primary": {"model": "openai/gpt-4.1"}}}


def test_the_spec_of_another_program_tells_what_the_pods_run() -> None:
    stable = build_record("a")
    assert find(build_lost(stable), stable) == stable


def test_another_revision_of_the_workload_tells_it_also_when_the_spec_has_another_or_cannot_be_read() -> None:
    stable, sibling = build_record("a"), build_record("c")
    snapshot = build_lost(stable, sibling, **OTHER)
    assert find(snapshot, stable) == stable
    assert find(replace(snapshot, parsed=None), stable) == stable


def test_no_other_workload_is_taken_for_it() -> None:
    stable, other = build_record("a"), build_record("c", **OTHER)
    assert other.workload != stable.workload
    assert find(build_lost(stable, other, **OTHER), stable) is None


def test_what_is_restorable_is_observed_and_what_is_there_is_not() -> None:
    stable = build_record("a")
    lost = build_observation(build_lost(stable), Memory(), build_given())
    assert lost.restorable == {stable.revision: get_program(stable)}
    assert build_observation(build_lost(stable, stable), Memory(), build_given()).restorable == {}
    assert build_observation(build_lost(stable, **OTHER), Memory(), build_given()).restorable == {}


def test_a_status_that_names_another_program_restores_nothing() -> None:
    stable = build_record("a")
    forged = replace(stable, sha256="f" * 64)
    assert revision_hash(stable.workload, forged.sha256) != stable.revision
    assert find(build_lost(forged), forged) is None
