"""One Action becomes one effect: the only place that writes anything but status.

Each write is bound to the uid and resourceVersion that this pass has read; a conflict drops the pass.
"""

import asyncio
from collections.abc import Callable
from typing import assert_never

from dspy_operator.api import names
from dspy_operator.errors import Conflict, Permanent
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYROLLOUTS,
    HTTPROUTES,
    JOBS,
    PDBS,
    PODS,
    SERVICES,
    Resource,
)
from dspy_operator.manifests.archive import build_program_copy, build_source_copy
from dspy_operator.manifests.owner import Manifest
from dspy_operator.manifests.revisions import build_revision
from dspy_operator.manifests.routes import Stamp, build_stamp
from dspy_operator.manifests.slots import Filling, build_slot
from dspy_operator.metrics.readings import Reading
from dspy_operator.reconcile import children, gates, routing
from dspy_operator.reconcile.memory import Given, Memory, get_version
from dspy_operator.reconcile.observe import find_revision_record
from dspy_operator.reconcile.opening import build_rollout
from dspy_operator.reconcile.programs import Programs
from dspy_operator.reconcile.snapshot import Object, Snapshot
from dspy_operator.rollout.actions import (
    Action,
    Archive,
    CreateRevision,
    CreateRollout,
    DeleteRollout,
    FillSlot,
    Prune,
    RefreshPods,
    RemoveGate,
    RemoveWorkload,
    RepairChildren,
    Restamp,
    RunGate,
    SetSplit,
)
from dspy_operator.rollout.model import Observation, Split
from dspy_operator.rollout.world import find_stable
from dspy_operator.traffic.table import AFTER_A_LOSS, build_table, read_headers


class Executor:
    """Carries out actions.

    `check` is called before every write (the pods' annotations apart, which anybody may repeat) and raises when this
    process may not write any more.
    """

    def __init__(self, client: Client, programs: Programs, check: Callable[[], None]) -> None:
        self._client = client
        self._programs = programs
        self._check = check

    async def execute(  # noqa: C901, PLR0912  one arm for each action
        self, action: Action, seen: Observation, snapshot: Snapshot, memory: Memory, given: Given
    ) -> None:
        """Do it.

        Raises:
            Conflict: the world is not what was read.
            Transient: it may work later.
            Permanent: the API server refuses it.
        """
        match action:
            case CreateRevision():
                await self._create_revision(action, snapshot, given)
            case CreateRollout():
                self_made = await build_rollout(action, snapshot, self._programs.has_feedback_scores)
                await self._create(DSPYROLLOUTS, self_made)
            case DeleteRollout():
                await self._delete_rollout(action.name, snapshot)
            case Archive():
                content = await self._programs.get_content(snapshot, action.program.sha256)
                copy = build_program_copy(snapshot.owner, action.program.sha256, content)
                await self._create(CONFIGMAPS, copy)
            case FillSlot():
                await self._fill_slot(action, snapshot, given)
            case SetSplit():
                stamp = Stamp(action.rollout, action.number, given.epoch)
                generation = find_generation(seen, snapshot, memory, given) + 1
                await self._write_table(action.split, generation, stamp, seen, snapshot, memory, given)
            case RefreshPods():
                await self._refresh_pods(snapshot, memory, given, seen.table.generation if seen.table else 0)
            case RepairChildren():
                await self._repair(seen, snapshot, memory, given)
            case RemoveWorkload():
                name = names.deployment_name(snapshot.owner.name, action.workload)
                await self._delete(DEPLOYMENTS, snapshot.deployments[name])
            case Restamp():
                await self._restamp(seen, snapshot, memory, given)
            case Prune():
                await self._prune(action, snapshot)
            case RunGate():
                await self._run_gate(action, snapshot)
            case RemoveGate():
                await self._delete(JOBS, snapshot.jobs[action.job])
            case _:
                assert_never(action)

    async def _run_gate(self, action: RunGate, snapshot: Snapshot) -> None:
        """The code first: before the first revision has pods nothing else has made its copy."""
        record = snapshot.revisions.get(action.program.revision)
        if record is not None and children.is_source_missing(snapshot, record):
            await self._create_source(record.source_digest, snapshot)
        await self._create(JOBS, gates.build_job(action, snapshot))

    async def _create_source(self, digest: str, snapshot: Snapshot) -> None:
        files = await self._programs.get_source(snapshot, digest)
        await self._create(CONFIGMAPS, build_source_copy(snapshot.owner, digest, files))

    async def _create_revision(self, action: CreateRevision, snapshot: Snapshot, given: Given) -> None:
        program = action.program
        record = find_revision_record(snapshot, given.serving_image, program.revision, program.sha256)
        if record is None:
            raise Conflict(f"nothing says any more what revision {program.revision} is")
        number = len(snapshot.revision_objects) + 1
        await self._create(CONTROLLERREVISIONS, build_revision(snapshot.owner, record, number))

    async def _delete_rollout(self, name: str, snapshot: Snapshot) -> None:
        for obj in snapshot.rollouts or ():
            if obj["metadata"]["name"] == name:
                await self._delete(DSPYROLLOUTS, obj)

    async def _fill_slot(self, action: FillSlot, snapshot: Snapshot, given: Given) -> None:
        program = action.program
        content = await self._programs.get_content(snapshot, program.sha256)
        filling = Filling(program.revision, program.sha256, content)
        live = snapshot.config_maps.get(names.slot_name(snapshot.owner.name, action.slot))
        await self._put(CONFIGMAPS, build_slot(snapshot.owner, action.slot, given.epoch, filling), live)

    async def _write_table(
        self,
        split: Split,
        generation: int,
        stamp: Stamp,
        seen: Observation,
        snapshot: Snapshot,
        memory: Memory,
        given: Given,
    ) -> None:
        await self._put_table(split, generation, stamp, snapshot, memory)
        await self._route(split, stamp, seen, snapshot, memory, given)
        await self._refresh_pods(snapshot, memory, given, generation)

    async def _put_table(
        self, split: Split, generation: int, stamp: Stamp, snapshot: Snapshot, memory: Memory
    ) -> None:
        headers = children.get_headers(snapshot)
        if snapshot.rollout is not None:
            headers = read_headers(snapshot.routes) or headers
        await self._put(
            CONFIGMAPS, build_table(snapshot.owner, split, generation, headers, stamp), snapshot.routes
        )
        memory.generation_floor = generation

    async def _route(
        self, split: Split, stamp: Stamp, seen: Observation, snapshot: Snapshot, memory: Memory, given: Given
    ) -> None:
        """What routes to own pods follows the table at once; a new epoch is stamped on it too."""
        view = routing.build_view(snapshot, memory, seen.rollout, split, given.now)
        router = routing.choose_router(snapshot, seen.rollout)
        again = bool(seen.table and seen.table.epoch < given.epoch)
        for manifest in router.list_writes(view, split, build_stamp(stamp), again=again):
            if manifest["kind"] == "HTTPRoute":
                await self._put(HTTPROUTES, manifest, snapshot.route)
            else:
                await self._put(SERVICES, manifest, snapshot.services.get(manifest["metadata"]["name"]))

    async def _restamp(self, seen: Observation, snapshot: Snapshot, memory: Memory, given: Given) -> None:
        """What routes first: by the table's stamp the next pass takes all of it for stamped."""
        table = seen.table
        if table is None:
            return
        stamp = Stamp(table.rollout, table.number, given.epoch)
        await self._route(table.split, stamp, seen, snapshot, memory, given)
        await self._put_table(table.split, table.generation, stamp, snapshot, memory)
        await self._refresh_pods(snapshot, memory, given, table.generation)

    async def _refresh_pods(self, snapshot: Snapshot, memory: Memory, given: Given, generation: int) -> None:
        """Tell every pod; one that cannot be told is told again later."""
        memory.refreshing.note(generation, given.now)
        value = f"{generation}.{memory.refreshing.times}"
        annotation = {names.ANNOTATION_ROUTES_GENERATION: value}
        results = await asyncio.gather(
            *(
                self._client.annotate(PODS, snapshot.owner.namespace, pod["metadata"]["name"], annotation)
                for pod in snapshot.pods
            ),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, dict):
                memory.known.add(get_version(result))
            if isinstance(result, Permanent) and result.code == FORBIDDEN:
                raise result

    async def _repair(self, seen: Observation, snapshot: Snapshot, memory: Memory, given: Given) -> None:
        split = seen.table.split if seen.table else None
        view = routing.build_view(snapshot, memory, seen.rollout, split, given.now)
        wanted = routing.build_wanted(snapshot, view, seen.rollout, find_stable(seen), split)
        for slot in children.list_missing_slots(snapshot):
            await self._create(CONFIGMAPS, children.build_empty_slot(snapshot, slot, given.epoch))
        for digest in {r.source_digest for r, _ in wanted.pods if children.is_source_missing(snapshot, r)}:
            await self._create_source(digest, snapshot)
        for simple in children.build_simple(snapshot, wanted):
            live = children.find_simple(snapshot, simple)
            if children.is_simple_drifted(live, simple):
                await self._put(SERVICES if simple["kind"] == "Service" else PDBS, simple, live)
        for extra in children.list_superfluous(snapshot, wanted):
            await self._delete(SERVICES if extra["kind"] == "Service" else HTTPROUTES, extra)
        if children.is_budget_superfluous(snapshot) and snapshot.budget:
            await self._delete(PDBS, snapshot.budget)
        for record, replicas in wanted.pods:
            await self._repair_deployment(
                children.build_workload(snapshot, record, replicas), seen, snapshot, memory
            )

    async def _repair_deployment(
        self, wanted: Manifest, seen: Observation, snapshot: Snapshot, memory: Memory
    ) -> None:
        name = wanted["metadata"]["name"]
        live = snapshot.deployments.get(name)
        is_open = seen.rollout is not None
        if not children.is_deployment_drifted(live, wanted, memory.settled, is_open=is_open):
            return
        if live is not None and is_open and children.is_spec_newer(live, wanted):
            replicas = {"spec": {"replicas": wanted["spec"]["replicas"]}}
            version = live["metadata"]["resourceVersion"]
            self._check()
            await self._client.merge(
                DEPLOYMENTS, snapshot.owner.namespace, name, replicas, resource_version=version
            )
            return
        written = await self._put(DEPLOYMENTS, wanted, live)
        memory.settled[name] = children.get_settled(written, wanted)

    async def _prune(self, action: Prune, snapshot: Snapshot) -> None:
        for obj in snapshot.rollouts or ():
            if obj["metadata"]["name"] in action.rollouts:
                await self._delete(DSPYROLLOUTS, obj)
        for name in action.config_maps:
            await self._delete(CONFIGMAPS, snapshot.config_maps[name])
        for revision in action.revisions:
            await self._delete(CONTROLLERREVISIONS, snapshot.revision_objects[revision])

    async def _put(self, resource: Resource, wanted: Manifest, live: Object | None) -> Object:
        """Create what is missing, apply over what was read."""
        if live is None:
            return await self._create(resource, wanted)
        self._check()
        meta = live["metadata"]
        return await self._client.apply(
            resource, wanted, uid=meta["uid"], resource_version=meta["resourceVersion"]
        )

    async def _create(self, resource: Resource, wanted: Manifest) -> Object:
        """Create, and tell somebody else's object of that name from our own that is new."""
        self._check()
        meta = wanted["metadata"]
        try:
            return await self._client.create(resource, wanted)
        except Conflict:
            found = await self._client.find(resource, meta["namespace"], meta["name"], metadata_only=True)
            ours = meta["ownerReferences"][0]["uid"]
            owners = (
                (found or {}).get("metadata", {}).get("ownerReferences") or [] if found else [{"uid": ours}]
            )
            if all(owner.get("uid") != ours for owner in owners):
                what = f"{wanted['kind']} {meta['name']}"
                raise Permanent(f"{what} exists and does not belong to this resource: rename one") from None
            raise

    async def _delete(self, resource: Resource, obj: Object) -> None:
        self._check()
        meta = obj["metadata"]
        await self._client.delete(
            resource,
            meta["namespace"],
            meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
        )


FORBIDDEN = 403


def find_generation(seen: Observation, snapshot: Snapshot, memory: Memory, given: Given) -> int:
    """The highest generation that any pod may have seen; far beyond it when the table itself is gone."""
    known = [memory.generation_floor, seen.table.generation if seen.table else 0]
    status = snapshot.deployment.get("status") or {}
    known.append(int(status.get("routesGeneration") or 0))
    for pod in snapshot.pods:
        told = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_ROUTES_GENERATION, "")
        number = str(told).partition(".")[0]
        known.append(int(number) if number.isdigit() else 0)
    if isinstance(given.reading, Reading):
        key = (snapshot.owner.namespace, snapshot.owner.name)
        known += [pod.generation or 0 for pod in given.reading.programs.get(key, {}).values()]
    highest = max(known)
    return highest if seen.table is not None or highest == 0 else highest + AFTER_A_LOSS
