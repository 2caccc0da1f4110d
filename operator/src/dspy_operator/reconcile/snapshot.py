"""Everything that one pass reads from the API server, in the order that the protocol needs, as it came.

First half of `observe`: the deployment, the attempt it names, the table, then all else. Never a watch's cache.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dspy_operator.api import names
from dspy_operator.api.fields import KeyRef
from dspy_operator.api.spec import DSPyDeployment, parse_deployment
from dspy_operator.errors import InvalidSpec
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    ENDPOINTSLICES,
    HTTPROUTES,
    JOBS,
    PDBS,
    PODS,
    SERVICES,
)
from dspy_operator.manifests.archive import RemoteProgram
from dspy_operator.manifests.owner import Owner, build_labels, is_owned
from dspy_operator.manifests.revisions import RevisionRecord, parse_revision
from dspy_operator.reconcile.digests import Digests
from dspy_operator.reconcile.worklist import Key

Object = dict[str, Any]
JOB_LABEL = "batch.kubernetes.io/job-name"
"""On every pod of a Job, by Kubernetes itself."""


@dataclass(frozen=True)
class Input:
    """A ConfigMap of the user's: digest of the artifact or of the code in it, None if it is not there.

    Of an artifact that lies elsewhere `uri` says where, and the digest is what the spec says: the pods check it.
    """

    name: str = ""
    key: str = ""
    digest: str | None = None
    uri: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Raw objects; each write of the pass is bound to the resourceVersion in here.

    `parsed` is None and `invalid` says why where the resource cannot be read. `taken` names objects with a child's name
    that are not ours. `jobs` and `gate_pods` are those of the regression gate, `examples` its set. `slots` are the
    digests of the bytes in the program slots. `services` are ours by name; `slices`, their EndpointSlices, and `route`,
    the HTTPRoute, are read where own pods or a gateway are in use; `has_gateway_api`: whether the cluster knows it.
    `workloads` are the Deployments that were built of it so far, for nobody to change.
    """

    owner: Owner
    deployment: Object
    parsed: DSPyDeployment | None
    invalid: InvalidSpec | None = None
    rollout: Object | None = None
    routes: Object | None = None
    config_maps: Mapping[str, Object] = field(default_factory=dict)
    deployments: Mapping[str, Object] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)
    slices: tuple[Object, ...] = ()
    route: Object | None = None
    has_gateway_api: bool = True
    budget: Object | None = None
    pods: tuple[Object, ...] = ()
    revisions: Mapping[str, RevisionRecord] = field(default_factory=dict)
    revision_objects: Mapping[str, Object] = field(default_factory=dict)
    rollouts: tuple[Object, ...] | None = None
    slots: tuple[str, ...] = ("",) * names.SLOTS
    artifact: Input = Input()
    source: Input = Input()
    examples: Input = Input()
    jobs: Mapping[str, Object] = field(default_factory=dict)
    gate_pods: tuple[Object, ...] = ()
    taken: tuple[str, ...] = ()
    workloads: list[tuple[RevisionRecord, Object]] = field(default_factory=list, compare=False, repr=False)

    @property
    def annotations(self) -> Mapping[str, str]:
        """The user's annotations: commands are among them."""
        return self.deployment["metadata"].get("annotations") or {}


def list_objects(snapshot: Snapshot) -> list[Object]:
    """Every object of ours that the snapshot holds."""
    single = (snapshot.deployment, snapshot.rollout, snapshot.routes, snapshot.route, snapshot.budget)
    listed = (
        *snapshot.services.values(),
        *snapshot.slices,
        *snapshot.config_maps.values(),
        *snapshot.revision_objects.values(),
        *snapshot.deployments.values(),
        *snapshot.pods,
        *snapshot.jobs.values(),
        *snapshot.gate_pods,
        *(snapshot.rollouts or ()),
    )
    return [obj for obj in (*single, *listed) if obj is not None]


class Reader:
    """Reads snapshots."""

    def __init__(self, client: Client, digests: Digests) -> None:
        self._client = client
        self._digests = digests

    async def find(self, key: Key) -> Snapshot | None:
        """The snapshot of one resource, None if it is gone."""
        namespace, name = key
        deployment = await self._client.find(DSPYDEPLOYMENTS, namespace, name)
        if deployment is None:
            return None
        owner = Owner(namespace, name, deployment["metadata"]["uid"])
        if deployment["metadata"].get("deletionTimestamp"):
            return Snapshot(owner, deployment, None)
        parsed, invalid = _parse(deployment)
        rollout = await self._find_rollout(owner, deployment)
        routes = await self._client.find(CONFIGMAPS, namespace, names.routes_name(name))
        seen = Snapshot(owner, deployment, parsed, invalid, rollout, routes)
        labels = ",".join(f"{key}={value}" for key, value in build_labels(owner).items())
        seen = await self._read_inputs(await self._read_children(seen, labels), labels)
        return await self._read_gate(await self._read_routing(seen, labels), labels)

    async def _read_routing(self, seen: Snapshot, labels: str) -> Snapshot:
        """What routes between pods of different workloads, where there are any, or where a gateway is in use."""
        spec = seen.deployment["spec"]
        asks = bool((spec.get("traffic") or {}).get("gateway"))
        routed = asks or names.stable_service_name(seen.owner.name) in seen.services
        if not routed and len(seen.deployments) < _SEVERAL and not _has_own_pods(seen.rollout):
            return seen
        namespace, name = seen.owner.namespace, seen.owner.name
        slices = await self._client.list_(ENDPOINTSLICES, namespace, labels=labels)
        route = await self._client.find(HTTPROUTES, namespace, names.route_name(name)) if routed else None
        knows = route is not None or not asks or await self._client.has_kind(HTTPROUTES, namespace)
        if route is not None and not is_owned(route, seen.owner):
            taken = (*seen.taken, f"{route['kind']} {route['metadata']['name']}")
            return replace(seen, slices=tuple(slices), taken=taken)
        return replace(seen, slices=tuple(slices), route=route, has_gateway_api=knows)

    async def _read_gate(self, seen: Snapshot, labels: str) -> Snapshot:
        """The Jobs of the regression gate, where the spec or the attempt has one."""
        spec = seen.parsed.spec if seen.parsed else None
        frozen = ((seen.rollout or {}).get("spec") or {}).get("regression")
        asked = spec.regression if spec else None
        if asked is None and not frozen:
            return seen
        owner, client = seen.owner, self._client
        jobs = [j for j in await client.list_(JOBS, owner.namespace, labels=labels) if is_owned(j, owner)]
        pods = await client.list_(PODS, owner.namespace, labels=f"{labels},{JOB_LABEL}") if jobs else []
        return replace(
            seen,
            jobs={job["metadata"]["name"]: job for job in jobs},
            gate_pods=tuple(pods),
            examples=await self._find_input(owner, asked.dataset.config_map if asked else None),
        )

    async def _find_rollout(self, owner: Owner, deployment: Object) -> Object | None:
        pointer = (deployment.get("status") or {}).get("canary")
        if not pointer:
            return None
        found = await self._client.find(DSPYROLLOUTS, owner.namespace, pointer["rollout"])
        return found if found and found["metadata"]["uid"] == pointer["rolloutUID"] else None

    async def _read_children(self, seen: Snapshot, labels: str) -> Snapshot:
        client, owner = self._client, seen.owner
        pods_labels = f"{labels},{names.LABEL_COMPONENT}={names.COMPONENT_SERVER}"
        maps, deployments, services, budget, pods = await asyncio.gather(
            client.list_(CONFIGMAPS, owner.namespace, labels=labels, metadata_only=True),
            client.list_(DEPLOYMENTS, owner.namespace, labels=labels),
            client.list_(SERVICES, owner.namespace, labels=labels),
            client.find(PDBS, owner.namespace, names.budget_name(owner.name)),
            client.list_(PODS, owner.namespace, labels=pods_labels),
        )
        owned = {m["metadata"]["name"]: m for m in maps if is_owned(m, owner)}
        ours = {one["metadata"]["name"]: one for one in services if is_owned(one, owner)}
        name = names.service_name(owner.name)
        service = ours.get(name) or await client.find(SERVICES, owner.namespace, name)
        loose = [obj for obj in (service, budget, seen.routes) if obj and not is_owned(obj, owner)]
        return replace(
            seen,
            routes=seen.routes if seen.routes and is_owned(seen.routes, owner) else None,
            config_maps=owned,
            deployments={d["metadata"]["name"]: d for d in deployments if is_owned(d, owner)},
            services=ours | ({name: service} if service and is_owned(service, owner) else {}),
            budget=budget,
            pods=tuple(slim_pod(pod) for pod in pods if not pod["metadata"].get("deletionTimestamp")),
            slots=await self._read_slots(owner, owned, seen.parsed),
            taken=tuple(f"{obj['kind']} {obj['metadata']['name']}" for obj in loose),
        )

    async def _read_inputs(self, seen: Snapshot, labels: str) -> Snapshot:
        owner = seen.owner
        phase = ((seen.rollout or {}).get("status") or {}).get("phase")
        revisions, rollouts, artifact, source = await asyncio.gather(
            self._client.list_(CONTROLLERREVISIONS, owner.namespace, labels=labels),
            self._list_rollouts(owner, labels, needed=phase in {None, "Preparing"}),
            self._find_artifact(owner, seen.parsed),
            self._find_source(owner, seen.parsed),
        )
        known = {
            record.revision: (record, obj)
            for obj in revisions
            if is_owned(obj, owner) and (record := parse_revision(obj))
        }
        return replace(
            seen,
            revisions={revision: record for revision, (record, _) in known.items()},
            revision_objects={revision: obj for revision, (_, obj) in known.items()},
            rollouts=rollouts,
            artifact=artifact,
            source=source,
        )

    async def _list_rollouts(self, owner: Owner, labels: str, *, needed: bool) -> tuple[Object, ...] | None:
        if not needed:
            return None
        found = await self._client.list_(DSPYROLLOUTS, owner.namespace, labels=labels)
        return tuple(obj for obj in found if is_owned(obj, owner))

    async def _read_slots(
        self, owner: Owner, owned: Mapping[str, Object], parsed: DSPyDeployment | None
    ) -> tuple[str, ...]:
        """A slot that refers to another place than the spec does for the same program counts as empty: to be filled.

        One after the other: at most one has changed since the last pass, and what is known is not asked for.
        """
        artifact = parsed.spec.program.artifact if parsed else None
        wanted = RemoteProgram(artifact.sha256, artifact.uri or "") if artifact else None
        slots = [owned.get(names.slot_name(owner.name, slot)) for slot in range(names.SLOTS)]
        digests = [await self._digests.find_program(slot, wanted) if slot else None for slot in slots]
        return tuple(digest or "" for digest in digests)

    async def _find_artifact(self, owner: Owner, parsed: DSPyDeployment | None) -> Input:
        artifact = parsed.spec.program.artifact if parsed else None
        if artifact is not None and artifact.uri:
            return Input(digest=artifact.sha256, uri=artifact.uri)
        return await self._find_input(owner, artifact.config_map if artifact else None)

    async def _find_input(self, owner: Owner, ref: KeyRef | None) -> Input:
        if ref is None:
            return Input()
        found = await self._client.find(CONFIGMAPS, owner.namespace, ref.name, metadata_only=True)
        digest = await self._digests.find_content(found, ref.key) if found else None
        return Input(ref.name, ref.key, digest)

    async def _find_source(self, owner: Owner, parsed: DSPyDeployment | None) -> Input:
        source = parsed.spec.program.source if parsed else None
        if source is None:
            return Input(digest="")
        found = await self._client.find(
            CONFIGMAPS, owner.namespace, source.config_map.name, metadata_only=True
        )
        digest = await self._digests.find_files(found) if found else None
        return Input(source.config_map.name, "", digest)


def slim_pod(pod: Object) -> Object:
    """What is asked of a pod: who it is, its annotations, its conditions and what its containers wait for."""
    status = pod.get("status") or {}
    waiting = next(
        (found for one in status.get("containerStatuses") or () if (found := _find_waiting(one))), None
    )
    slim = {"conditions": status.get("conditions") or []} | ({"waiting": waiting} if waiting else {})
    return {"metadata": pod["metadata"], "status": slim}


def _find_waiting(container: Object) -> Object | None:
    """What a container waits for, in the kubelet's words, and how its last process ended."""
    waiting: Object | None = (container.get("state") or {}).get("waiting")
    last = (container.get("lastState") or {}).get("terminated")
    if not waiting or not last:
        return waiting
    ended = (
        f"the last process ended with code {last.get('exitCode')} ({last.get('reason') or 'no reason given'})"
    )
    return waiting | {
        "message": "; ".join(part for part in (ended, str(waiting.get("message") or "")) if part)
    }


def _has_own_pods(rollout: Object | None) -> bool:
    """Whether the open attempt's canary has pods of its own."""
    spec = (rollout or {}).get("spec") or {}
    sides = [(spec.get(side) or {}).get("workload") for side in ("from", "to")]
    return sides[0] != sides[1]


_SEVERAL = 2


def _parse(deployment: Object) -> tuple[DSPyDeployment | None, InvalidSpec | None]:
    try:
        return parse_deployment(deployment), None
    except InvalidSpec as error:
        return None, error
