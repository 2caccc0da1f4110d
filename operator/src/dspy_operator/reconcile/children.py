"""The children of a DSPyDeployment as they should be, and which of them are not.

Built from what stable's ControllerRevision says its pods run and from the rest of the spec as it is now.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dspy_operator.api import names
from dspy_operator.api.defaults import lm_timeout
from dspy_operator.api.quantities import parse_duration
from dspy_operator.api.spec import DeploymentSpec
from dspy_operator.manifests.drift import digest_manifest, is_covered
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.revisions import RevisionRecord
from dspy_operator.manifests.service import build_budget
from dspy_operator.manifests.slots import build_slot
from dspy_operator.manifests.workload import Workload, build_deployment
from dspy_operator.reconcile.snapshot import Object, Snapshot
from dspy_operator.rollout import revision
from dspy_operator.rollout.model import Program
from dspy_operator.traffic.table import Headers

Settled = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Wanted:
    """The children that depend on where traffic goes.

    `pods`: what each Deployment runs, `workload` being what its pods are called, and how many of them. `services`: all
    that there must be. `has_route`: whether an HTTPRoute is in use.
    """

    pods: tuple[tuple[RevisionRecord, int], ...] = ()
    services: tuple[Manifest, ...] = ()
    has_route: bool = False


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


def find_denial(snapshot: Snapshot, program: Program | None) -> str:
    """Why the API server lets no pod of a program's workload be made (quota, limits, pod security), in its words.

    The Deployment repeats what its ReplicaSets say of a pod that could not be created; empty when it can.
    """
    if program is None:
        return ""
    live = snapshot.deployments.get(names.deployment_name(snapshot.owner.name, program.workload)) or {}
    conditions = (live.get("status") or {}).get("conditions") or []
    told = (c for c in conditions if c.get("type") == "ReplicaFailure" and c.get("status") == "True")
    return next((str(c.get("message") or c.get("reason") or "no reason given") for c in told), "")


def check_workload(snapshot: Snapshot, record: RevisionRecord) -> None:
    """Whether pods can be made of it.

    Raises:
        InvalidSpec: naming the field that forbids it.
    """
    _find_workload(snapshot, record)


def build_workload(snapshot: Snapshot, record: RevisionRecord, replicas: int) -> Manifest:
    """The Deployment of one workload, with the digest of what is applied (the number of pods apart)."""
    manifest = _find_workload(snapshot, record)
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


def _find_workload(snapshot: Snapshot, record: RevisionRecord) -> Manifest:
    """Built once for a snapshot: stable and the spec's revision mostly have the same one; every pass asks for both."""
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


def build_simple(snapshot: Snapshot, wanted: Wanted) -> list[Manifest]:
    """The Services, and the budget where one pod may be missed."""
    budgets = [build_budget(snapshot.owner)] if get_replicas(snapshot) > 1 else []
    return [*wanted.services, *budgets]


def find_simple(snapshot: Snapshot, manifest: Manifest) -> Object | None:
    """The live Service or budget of that name."""
    is_service = manifest["kind"] == "Service"
    return snapshot.services.get(manifest["metadata"]["name"]) if is_service else snapshot.budget


def is_simple_drifted(live: Object | None, manifest: Manifest) -> bool:
    """Whether it must be written. A selector is compared whole: one label more is other pods."""
    if not is_covered(live, manifest):
        return True
    is_service = manifest["kind"] == "Service"
    return is_service and bool((live or {})["spec"].get("selector") != manifest["spec"]["selector"])


def list_superfluous(snapshot: Snapshot, wanted: Wanted) -> list[Object]:
    """What routed by an earlier spec or attempt; the route first, as it names the Services."""
    kept = {service["metadata"]["name"] for service in wanted.services}
    if not kept:
        return []
    route = [snapshot.route] if snapshot.route is not None and not wanted.has_route else []
    return route or [live for name, live in snapshot.services.items() if name not in kept]


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


def list_drifted(snapshot: Snapshot, wanted: Wanted, settled: Settled, *, is_open: bool) -> tuple[str, ...]:
    """Children that are missing or are not as they should be, for people.

    While an attempt is open (`is_open`) a change of the spec that touches pods waits; an edit by hand is reverted.
    """
    if not wanted.pods or snapshot.parsed is None or snapshot.taken:
        return ()
    drifted = [f"program slot {slot}" for slot in list_missing_slots(snapshot)]
    if any(is_source_missing(snapshot, record) for record, _ in wanted.pods):
        drifted.append("the copy of the code")
    simple = [
        one for one in build_simple(snapshot, wanted) if is_simple_drifted(find_simple(snapshot, one), one)
    ]
    drifted += [_tell(snapshot, one) for one in simple]
    drifted += [_tell(snapshot, live) for live in list_superfluous(snapshot, wanted)]
    if is_budget_superfluous(snapshot):
        drifted.append("PodDisruptionBudget")
    for record, replicas in wanted.pods:
        workload = build_workload(snapshot, record, replicas)
        found = snapshot.deployments.get(workload["metadata"]["name"])
        if is_deployment_drifted(found, workload, settled, is_open=is_open):
            drifted.append("Deployment")
    return tuple(drifted)


def _tell(snapshot: Snapshot, child: Manifest) -> str:
    """The kind, and the name where there may be several."""
    name = child["metadata"]["name"]
    return str(child["kind"]) if name == snapshot.owner.name else f"{child['kind']} {name}"


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
