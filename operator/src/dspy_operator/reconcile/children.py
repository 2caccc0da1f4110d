"""The children of a DSPyDeployment as they should be, and which of them are not.

Built from what stable's ControllerRevision says its pods run and from the rest of the spec as it is now.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspy_operator.api import names
from dspy_operator.api.defaults import lm_timeout
from dspy_operator.api.quantities import parse_duration
from dspy_operator.api.spec import DeploymentSpec
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.revisions import RevisionRecord
from dspy_operator.manifests.service import build_budget, build_service
from dspy_operator.manifests.slots import build_slot
from dspy_operator.manifests.workload import Workload, build_deployment
from dspy_operator.reconcile.drift import digest_manifest, is_covered
from dspy_operator.reconcile.snapshot import Object, Snapshot
from dspy_operator.rollout import revision
from dspy_operator.rollout.model import Program
from dspy_operator.traffic.table import Headers

Settled = Mapping[str, tuple[int, str]]


def find_image(snapshot: Snapshot, spec: DeploymentSpec, serving_image: str) -> str:
    """The image of the spec's revision: a default one stays what it was, whatever a newer operator brings."""
    if spec.image is not None:
        return spec.image
    stable = snapshot.parsed.status.stable if snapshot.parsed else None
    kept = snapshot.revisions.get(stable.revision) if stable else None
    return kept.image if kept and kept.is_default_image else serving_image


def get_template_part(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of the pod template that belongs to the workload."""
    return revision.get_template_part((wire.get("serving") or {}).get("podTemplate") or {})


def get_replicas(snapshot: Snapshot) -> int:
    """How many pods the spec asks for."""
    return int(snapshot.deployment["spec"].get("replicas", 2))


def get_headers(snapshot: Snapshot) -> Headers:
    """The request headers that the spec names."""
    traffic = snapshot.deployment["spec"].get("traffic") or {}
    return Headers(traffic.get("userHeader") or "", traffic.get("overrideHeader") or "")


def list_archived(snapshot: Snapshot) -> list[str]:
    """Digests of the programs that have an immutable copy."""
    prefix = f"{snapshot.owner.name}-program-"
    return [
        str((obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_SHA256, ""))
        for name, obj in snapshot.config_maps.items()
        if name.startswith(prefix)
    ]


def list_leaving(snapshot: Snapshot, stable: Program | None) -> tuple[str, ...]:
    """Workloads that still have a Deployment although stable is another."""
    if stable is None:
        return ()
    workloads = (d["metadata"]["labels"].get(names.LABEL_WORKLOAD, "") for d in snapshot.deployments.values())
    return tuple(sorted(workload for workload in workloads if workload != stable.workload))


def find_denial(snapshot: Snapshot, stable: Program | None) -> str:
    """Why the API server lets no pod of stable's workload be made (quota, limits, pod security), in its words.

    The Deployment repeats what its ReplicaSets say of a pod that could not be created; empty when it can.
    """
    if stable is None:
        return ""
    live = snapshot.deployments.get(names.deployment_name(snapshot.owner.name, stable.workload)) or {}
    conditions = (live.get("status") or {}).get("conditions") or []
    told = (c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") == "True")
    return next((str(c.get("message") or c.get("reason") or "no reason given") for c in told), "")


def check_workload(snapshot: Snapshot, record: RevisionRecord) -> None:
    """Whether pods can be made of it.

    Raises:
        InvalidSpec: naming the field that forbids it.
    """
    build_workload(snapshot, record)


def build_workload(snapshot: Snapshot, record: RevisionRecord) -> Manifest:
    """The Deployment of one workload, with the digest of what is applied (the number of pods apart).

    Built once for a snapshot: stable and the spec's revision mostly have the same one, and every pass asks for both.
    """
    runs = replace(record, revision="", sha256="")
    for known, manifest in snapshot.workloads:
        if known == runs:
            return manifest
    manifest = _build_workload(snapshot, record)
    snapshot.workloads.append((runs, manifest))
    return manifest


def _build_workload(snapshot: Snapshot, record: RevisionRecord) -> Manifest:
    manifest = build_deployment(describe_workload(snapshot, record))
    digest = digest_manifest(manifest)
    manifest["metadata"].setdefault("annotations", {})[names.ANNOTATION_APPLIED] = digest
    manifest["spec"]["replicas"] = get_replicas(snapshot)
    return manifest


def describe_workload(snapshot: Snapshot, record: RevisionRecord) -> Workload:
    """What the pods of a revision are made of; the number of them apart."""
    wire = snapshot.deployment["spec"]
    template = (wire.get("serving") or {}).get("podTemplate") or {}
    timeout = record.lm.get("timeout")
    return Workload(
        owner=snapshot.owner,
        workload=record.workload,
        image=record.image,
        module=record.module,
        lm=record.lm,
        timeout=parse_duration(timeout) if timeout else _get_timeout(snapshot),
        replicas=None,
        source=names.source_name(snapshot.owner.name, record.source_digest) if record.source_digest else None,
        pull_secret=(wire["program"]["artifact"].get("pullSecret") or {}).get("name"),
        serving=wire.get("serving") or {},
        scoring=wire.get("scoring") or {},
        pod_template=revision.replace_template_part(template, record.template),
    )


def build_simple(snapshot: Snapshot) -> list[Manifest]:
    """The Service, and the budget where one pod may be missed."""
    wanted = [build_service(snapshot.owner)]
    return [*wanted, build_budget(snapshot.owner)] if get_replicas(snapshot) > 1 else wanted


def list_missing_slots(snapshot: Snapshot) -> list[int]:
    """Program slots that do not exist."""
    return [
        slot
        for slot in range(names.SLOTS)
        if names.slot_name(snapshot.owner.name, slot) not in snapshot.config_maps
    ]


def build_empty_slot(snapshot: Snapshot, slot: int, epoch: int) -> Manifest:
    """A slot that holds nothing yet: created with the Deployment, because pods see a later one late."""
    return build_slot(snapshot.owner, slot, epoch)


def is_source_missing(snapshot: Snapshot, record: RevisionRecord) -> bool:
    """Whether the pods' code has no copy although it could be made."""
    if not record.source_digest or record.source_digest != snapshot.source.digest:
        return False
    return names.source_name(snapshot.owner.name, record.source_digest) not in snapshot.config_maps


def is_budget_superfluous(snapshot: Snapshot) -> bool:
    """A single pod must not be protected: it could never be moved."""
    return snapshot.budget is not None and get_replicas(snapshot) <= 1


def list_drifted(
    snapshot: Snapshot, stable: Program | None, settled: Settled, *, is_open: bool
) -> tuple[str, ...]:
    """Children that are missing or are not as they should be, for people.

    While an attempt is open (`is_open`) a change of the spec that touches pods waits; an edit by hand is reverted.
    """
    record = snapshot.revisions.get(stable.revision) if stable else None
    if record is None or snapshot.parsed is None or snapshot.taken:
        return ()
    drifted = [f"program slot {slot}" for slot in list_missing_slots(snapshot)]
    if is_source_missing(snapshot, record):
        drifted.append("the copy of the code")
    live = {"Service": snapshot.service, "PodDisruptionBudget": snapshot.budget}
    simple = [(wanted["kind"], wanted) for wanted in build_simple(snapshot)]
    drifted += [kind for kind, wanted in simple if not is_covered(live[kind], wanted)]
    if is_budget_superfluous(snapshot):
        drifted.append("PodDisruptionBudget")
    workload = build_workload(snapshot, record)
    found = snapshot.deployments.get(workload["metadata"]["name"])
    if is_deployment_drifted(found, workload, settled, is_open=is_open):
        drifted.append("Deployment")
    return tuple(drifted)


def is_deployment_drifted(live: Object | None, wanted: Manifest, settled: Settled, *, is_open: bool) -> bool:
    """Whether the Deployment must be written."""
    if live is None or live["spec"].get("replicas") != wanted["spec"]["replicas"]:
        return True
    if is_covered(live, wanted) or settled.get(wanted["metadata"]["name"]) == get_settled(live, wanted):
        return False
    return not (is_open and is_spec_newer(live, wanted))


def get_settled(live: Object, wanted: Manifest) -> tuple[int, str]:
    """What was applied, and what the API server made of it."""
    return live["metadata"].get("generation", 0), wanted["metadata"]["annotations"][names.ANNOTATION_APPLIED]


def is_spec_newer(live: Object, wanted: Manifest) -> bool:
    """Whether the spec has changed since the Deployment was applied."""
    applied = (live["metadata"].get("annotations") or {}).get(names.ANNOTATION_APPLIED)
    return bool(applied != wanted["metadata"]["annotations"][names.ANNOTATION_APPLIED])


def _get_timeout(snapshot: Snapshot) -> Any:
    if snapshot.parsed is None:
        raise AssertionError("the workload of a resource that cannot be read")
    return lm_timeout(snapshot.parsed.spec)
