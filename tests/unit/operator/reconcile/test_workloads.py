"""The Deployment of a workload is built once for what a pass has read, however often it is asked for."""

from dataclasses import replace

import pytest
from tests.unit.operator.reconcile.objects import build_deployment, build_given, build_snapshot

from dspy_operator.reconcile import children
from dspy_operator.reconcile.memory import Memory
from dspy_operator.reconcile.observe import build_observation, build_revision_record
from dspy_operator.reconcile.snapshot import Snapshot


def build_serving() -> Snapshot:
    """The spec's revision is stable."""
    code = replace(build_snapshot().source, digest="")
    stable = build_revision_record(build_snapshot(source=code), "server:1")
    status = {"stable": {"revision": stable.revision, "sha256": stable.sha256, "version": stable.sha256[:12]}}
    deployment = build_deployment(**status)
    return build_snapshot(deployment=deployment, source=code, revisions={stable.revision: stable})


def test_it_is_built_once_for_all_passes_over_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = children.build_deployment
    monkeypatch.setattr(
        children, "build_deployment", lambda workload: built.append(workload) or real(workload)
    )
    snapshot = build_serving()
    for _ in range(3):
        build_observation(snapshot, Memory(), build_given())
    assert len(built) == 1


def test_another_image_is_another_workload() -> None:
    snapshot = build_serving()
    record = next(iter(snapshot.revisions.values()))
    images = [
        children.build_workload(snapshot, replace(record, image=image), 2)["spec"]["template"]["spec"][
            "containers"
        ][0]["image"]
        for image in ("one:1", "two:2", "one:1")
    ]
    assert images == ["one:1", "two:2", "one:1"]
