"""Second half of `observe`: what was read becomes the one frozen Observation that `decide` sees.

Pure but for the memory that it is handed; `snapshot.py` reads the API server, `sampler.py` reads Prometheus.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from dspy_operator.api import names
from dspy_operator.api.defaults import rollback_window, steps_with_defaults, traffic_with_defaults
from dspy_operator.api.reasons import Reason
from dspy_operator.api.rollout import DSPyRollout, parse_rollout
from dspy_operator.api.spec import DeploymentSpec, Isolation
from dspy_operator.api.strategy import OnNewRevision
from dspy_operator.api.unsupported import list_unsupported
from dspy_operator.errors import InvalidSpec
from dspy_operator.manifests.revisions import RevisionRecord
from dspy_operator.reconcile import children, gates, history, looks, pods, routing
from dspy_operator.reconcile.commands import list_orders
from dspy_operator.reconcile.memory import Given, Memory
from dspy_operator.reconcile.routing import RoutingState
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.capacity import ArtifactState, Capacity, Own
from dspy_operator.rollout.model import (
    DeploymentRecord,
    Observation,
    Program,
    Refusal,
    Rollout,
    Target,
)
from dspy_operator.rollout.plan import build_plan, build_routing
from dspy_operator.rollout.records import read_deployment_record, read_program, read_rollout_record
from dspy_operator.rollout.revision import revision_hash, workload_hash
from dspy_operator.rollout.sizing import describe_unreachable
from dspy_operator.rollout.world import pick_stable

MISSING_FOR = 120.0
"""Seconds for which a missing artifact is waited for without complaint: Argo CD applies resources together."""


def build_observation(snapshot: Snapshot, memory: Memory, given: Given) -> Observation:
    """The world as `decide` sees it."""
    if snapshot.deployment["metadata"].get("deletionTimestamp"):
        return Observation(given.now, given.epoch, snapshot.owner.name, deleting=True)
    record = _read_record(snapshot)
    rollout = _read_rollout(snapshot, memory)
    memory.forget_attempt(rollout.uid if rollout else "")
    past = history.build_history(snapshot, record, given.now)
    revisions = {revision: get_program(kept) for revision, kept in snapshot.revisions.items()}
    stable = pick_stable(record, revisions.values())
    target = _build_target(snapshot, memory, given, past.previous)
    state = routing.build_state(snapshot, memory, given, rollout, stable)
    return Observation(
        now=given.now,
        epoch=given.epoch,
        name=snapshot.owner.name,
        target=target,
        queue=_is_queueing(snapshot),
        isolated=_is_isolated(snapshot),
        spec_paused=bool(snapshot.parsed and snapshot.parsed.spec.paused),
        record=record,
        rollout=rollout,
        orphans=past.orphans,
        pending=past.pending,
        revisions=revisions,
        restorable=dict(_list_restorable(snapshot, given, record, rollout)),
        attempts=past.attempts,
        previous=past.previous,
        stock=history.build_stock(snapshot),
        table=state.table,
        confirmation=state.confirmation,
        capacity=_build_capacity(snapshot, memory, given, stable, rollout, target, state),
        gate=gates.observe_gate(snapshot, record, rollout, _find_program(target)),
        orders=list_orders(snapshot.annotations, record, rollout),
        judging=looks.build_judging(snapshot, memory, given.reading, rollout, state),
        checkpoint_due=rollout is not None and given.now - memory.checkpoint_at >= given.checkpoint_interval,
        p95=memory.p95,
        prometheus_now=given.prometheus_now,
    )


def get_program(record: RevisionRecord) -> Program:
    """What a ControllerRevision says, as decisions see it."""
    return Program(record.revision, record.workload, record.sha256, record.module)


def build_revision_record(snapshot: Snapshot, serving_image: str) -> RevisionRecord:
    """What the spec's revision is, for its ControllerRevision.

    Raises:
        InvalidSpec: the spec cannot be read or its code is not there.
    """
    if snapshot.parsed is None:
        raise snapshot.invalid or InvalidSpec("spec", "cannot be read")
    spec, wire = snapshot.parsed.spec, snapshot.deployment["spec"]
    source = snapshot.source.digest
    if source is None:
        name = snapshot.source.name
        raise InvalidSpec(
            "spec.program.source.configMap", f"ConfigMap {name} is not there or has no *.py key"
        )
    image = children.find_image(snapshot, spec, serving_image)
    workload = workload_hash(spec, image, source)
    return RevisionRecord(
        revision=revision_hash(workload, spec.program.artifact.sha256),
        workload=workload,
        module=spec.program.module,
        sha256=spec.program.artifact.sha256,
        image=image,
        is_default_image=spec.image is None,
        source_digest=source,
        lm=wire.get("lm") or {},
        template=children.get_template_part(wire),
    )


def find_revision_record(
    snapshot: Snapshot, serving_image: str, revision: str, sha256: str
) -> RevisionRecord | None:
    """What a revision is, by the spec or by another revision of its workload; None if neither has that workload.

    The name of a revision is the digest of its workload and its program, so no other workload can be taken for it.
    """
    known = list(snapshot.revisions.values())
    with suppress(InvalidSpec):
        known.append(build_revision_record(snapshot, serving_image))
    alike = (kept for kept in known if revision_hash(kept.workload, sha256) == revision)
    found = next(alike, None)
    return replace(found, revision=revision, sha256=sha256) if found else None


def _list_restorable(
    snapshot: Snapshot, given: Given, record: DeploymentRecord, rollout: Rollout | None
) -> Iterator[tuple[str, Program]]:
    """Revisions in use without a ControllerRevision of which is known what they are."""
    used = {record.stable.revision: record.stable.sha256} if record.stable else {}
    used |= {program.revision: program.sha256 for program in (rollout.origin, rollout.to)} if rollout else {}
    for revision, sha256 in used.items():
        if revision not in snapshot.revisions:
            found = find_revision_record(snapshot, given.serving_image, revision, sha256)
            if found is not None:
                yield revision, get_program(found)


def _read_record(snapshot: Snapshot) -> DeploymentRecord:
    return read_deployment_record(history.read_status(snapshot))


def _read_rollout(snapshot: Snapshot, memory: Memory) -> Rollout | None:
    if snapshot.rollout is None:
        return None
    try:
        parsed = parse_rollout(snapshot.rollout)
        return _build_rollout(parsed, looks.find_saved(parsed, memory))
    except (InvalidSpec, ValueError):
        return history.build_unknown(snapshot.rollout)


def _build_rollout(parsed: DSPyRollout, analysis: Analysis | None) -> Rollout:
    meta = parsed.metadata
    return Rollout(
        name=meta.name,
        uid=meta.uid,
        origin=read_program(parsed.spec.from_),
        to=read_program(parsed.spec.to),
        fast=parsed.spec.fast,
        plan=build_plan(parsed.spec),
        record=read_rollout_record(parsed, analysis),
        created_at=meta.creation_timestamp.timestamp() if meta.creation_timestamp else 0.0,
    )


def _is_queueing(snapshot: Snapshot) -> bool:
    strategy = snapshot.parsed.spec.strategy if snapshot.parsed else None
    return bool(strategy and strategy.on_new_revision is OnNewRevision.QUEUE)


def _is_isolated(snapshot: Snapshot) -> bool:
    traffic = snapshot.parsed.spec.traffic if snapshot.parsed else None
    return bool(traffic and traffic.isolation is Isolation.POD)


def _build_target(
    snapshot: Snapshot, memory: Memory, given: Given, previous: tuple[str, ...]
) -> Target | Refusal:
    refusal = _find_refusal(snapshot, given)
    if refusal is not None:
        return refusal
    assert snapshot.parsed is not None  # noqa: S101  _find_refusal says so
    spec = snapshot.parsed.spec
    source_missing = snapshot.source.digest is None
    if source_missing:
        return _miss(memory, given, f"ConfigMap {snapshot.source.name} of program.source is not there")
    kept = build_revision_record(snapshot, given.serving_image)
    program = get_program(kept)
    state, message = _get_artifact_state(snapshot, program)
    if state is ArtifactState.READY and (lacking := gates.find_missing_examples(snapshot)):
        state, message = ArtifactState.MISSING, lacking
    if state is ArtifactState.MISSING:
        missing = _miss(memory, given, message)
        return Target(
            program, state, missing.message, missing_long=missing.reason is Reason.ARTIFACT_NOT_FOUND
        )
    memory.missing_since = None
    in_window = program.revision in previous[: rollback_window(spec)]
    return Target(
        program,
        state,
        message,
        in_window=in_window,
        is_gated=gates.is_first_gated(snapshot),
        unreachable=_describe_unreachable(spec),
    )


def _describe_unreachable(spec: DeploymentSpec) -> str:
    """Of a canary with its own pods: which of its weights their numbers cannot come near."""
    weights = [step.weight for step in steps_with_defaults(spec)]
    return describe_unreachable(spec.replicas, weights, build_routing(traffic_with_defaults(spec)))


def _find_program(target: Target | Refusal) -> Program | None:
    return target.program if isinstance(target, Target) else None


def _miss(memory: Memory, given: Given, message: str) -> Refusal:
    """Something that the spec names is not there: wait for it first, complain later."""
    if memory.missing_since is None:
        memory.missing_since = given.now
    waited = given.now - memory.missing_since
    reason = Reason.ARTIFACT_NOT_FOUND if waited >= MISSING_FOR else Reason.WAITING_FOR_ARTIFACT
    return Refusal(reason, message)


def _find_refusal(snapshot: Snapshot, given: Given) -> Refusal | None:
    if snapshot.invalid is not None or snapshot.parsed is None:
        return Refusal(Reason.INVALID_SPEC, str(snapshot.invalid))
    if snapshot.taken:
        message = (
            f"{', '.join(snapshot.taken)} exists and does not belong to this resource: rename one of them"
        )
        return Refusal(Reason.NAME_TAKEN, message)
    undoable = _find_undoable(snapshot, snapshot.parsed.spec)
    if undoable:
        return Refusal(Reason.INVALID_SPEC, undoable)
    if snapshot.source.digest is None:
        return None
    try:
        children.check_workload(snapshot, build_revision_record(snapshot, given.serving_image))
    except InvalidSpec as error:
        return Refusal(Reason.INVALID_SPEC, str(error))
    return None


def _find_undoable(snapshot: Snapshot, spec: DeploymentSpec) -> str:
    """What of the spec this version, or this cluster, cannot do; empty for nothing."""
    unsupported = list_unsupported(spec)
    if unsupported:
        return f"{', '.join(unsupported)}: not supported by this version; remove it"
    if not snapshot.has_gateway_api:
        return "spec.traffic.gateway: the cluster has no HTTPRoutes; install the Gateway API, or remove the field"
    return ""


def _get_artifact_state(snapshot: Snapshot, program: Program) -> tuple[ArtifactState, str]:
    found = snapshot.artifact
    archived = names.program_name(snapshot.owner.name, program.sha256) in snapshot.config_maps
    if found.digest == program.sha256:
        return ArtifactState.READY, ""
    if found.digest is None:
        if archived:
            return ArtifactState.READY, ""
        return ArtifactState.MISSING, f"ConfigMap {found.name} or its key {found.key} is not there"
    message = (
        f"ConfigMap {found.name}, key {found.key}: the bytes have sha256 {found.digest}, "
        f"the spec says {program.sha256}"
    )
    return ArtifactState.MISMATCH, message


def _build_own(snapshot: Snapshot, memory: Memory, rollout: Rollout | None, state: RoutingState) -> Own:
    """The pods of a canary that has its own; none can be reached before the table names it."""
    if rollout is None or not rollout.has_own_pods:
        return Own()
    split = state.split
    named = split is not None and split.canary is not None and split.canary.program == rollout.to
    reachable, message = state.router.count_reachable(state.view, split) if split and named else (0, "")
    ready = len(pods.list_ready_pods(snapshot, rollout.to))
    memory.is_coming_up = children.get_replicas(snapshot) == 0 or (memory.is_coming_up and not ready)
    return Own(
        ready=ready,
        reachable=reachable,
        is_coming_up=memory.is_coming_up,
        denied=children.find_denial(snapshot, rollout.to),
        message=pods.find_waiting(snapshot, rollout.to) or message,
    )


def _build_capacity(
    snapshot: Snapshot,
    memory: Memory,
    given: Given,
    stable: Program | None,
    rollout: Rollout | None,
    target: Target | Refusal,
    state: RoutingState,
) -> Capacity:
    wanted = routing.build_wanted(snapshot, state.view, rollout, stable, state.split)
    own = _build_own(snapshot, memory, rollout, state)
    archived = frozenset(children.list_archived(snapshot))
    ready, replicas = len(pods.list_ready_pods(snapshot, stable)), children.get_replicas(snapshot)
    offered = {snapshot.artifact.digest} if snapshot.artifact.digest else set()
    programs = {p.revision: p for p in (stable, rollout.to if rollout else None) if p}
    homes = {rollout.to.revision: rollout.to} if rollout and rollout.has_own_pods else {}
    if isinstance(target, Target):
        programs.setdefault(target.program.revision, target.program)
    return Capacity(
        ready_pods=ready,
        desired_pods=replicas,
        slots=snapshot.slots,
        archived=archived,
        available=archived | offered | frozenset(filter(None, snapshot.slots)),
        drifted=children.list_drifted(snapshot, wanted, memory.settled, is_open=rollout is not None),
        leaving=children.list_leaving(snapshot, stable),
        denied=children.find_denial(snapshot, stable),
        own=own,
        down_for=memory.lasting.measure("down", True if replicas and not ready else None, given.now),
        loads={
            revision: pods.build_load(
                given.reading, snapshot, program, pods.list_ready_pods(snapshot, homes.get(revision, stable))
            )
            for revision, program in programs.items()
        },
    )
