"""The safety invariants, checked at every write of an operator against the objects, the pods and what people did.

Called by `run.py` for each change; names of the invariants are those of docs/reliability.md. What pods really do is
known here, so a rule says what users would see, and not what the operator believes.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.client import GONE
from tests.simulation.dataplane import DataPlane
from tests.simulation.jobs import Jobs
from tests.simulation.pods import Kubelet, Pod
from tests.simulation.store import Change, Object
from tests.simulation.user import NAME, NAMESPACE, People
from tests.simulation.weather import Weather

from dspy_operator.api import names
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    EVENTS,
    LEASES,
    PODS,
)
from dspy_operator.manifests.archive import find_digest
from dspy_operator.manifests.owner import Owner
from dspy_operator.rollout.model import Share, Split, Table
from dspy_operator.traffic.table import read_table

WEIGHTS = frozenset({0, 10, 50, 100})
KNOWN_FOR = 15.0
"""Seconds for which a pod must have been ready before its programs count: an operator sees a younger one later."""
LONG_AGO = 90.0
"""Seconds after a deletion by hand in which what was deleted may still be missed."""
LOWERED = frozenset({"RollingBack", "RolledBack", "Aborted", "Superseded"})


@dataclass
class Referee:
    """`broken` grows by one line for each violation."""

    weather: Weather
    kubelet: Kubelet
    people: People
    jobs: Jobs
    plane: DataPlane
    broken: list[str] = field(default_factory=list)
    lowered: set[str] = field(default_factory=set)

    def say(self, invariant: str, sentence: str) -> None:
        self.broken.append(f"{invariant} at {self.weather.elapsed:.2f}: {sentence}")

    def check(self, change: Change) -> None:
        """One write."""
        if not change.who.startswith("operator") or change.resource in {LEASES, EVENTS}:
            return
        self._check_bound(change)
        self._check_owned(change)
        if change.basis == GONE:
            self.say("S10", f"{change.call.what} after it was read that the resource is being deleted")
        meta = change.live["metadata"]
        if change.resource is DSPYROLLOUTS:
            self._note_lowered(change)
        elif change.resource is CONFIGMAPS and meta["name"] == names.routes_name(NAME):
            self._check_table(change)
        elif change.resource is CONFIGMAPS and "-slot-" in meta["name"]:
            self._check_slot(change)
        elif change.resource is DEPLOYMENTS:
            self._check_capacity(change)
        elif change.resource is CONTROLLERREVISIONS and change.after is None:
            self._check_revision_is_unused(change)

    # --- every write ------------------------------------------------------------------------------------------

    def _check_bound(self, change: Change) -> None:
        """S9: what changes an object is bound to the version that was read."""
        call = change.call
        if call.verb == "create" or change.resource is PODS:
            return
        body = call.body or {}
        bound = body.get("preconditions") or body.get("metadata") or {}
        if not bound.get("resourceVersion"):
            self.say("S9", f"{call.what} is bound to no version")

    def _check_owned(self, change: Change) -> None:
        """S11: only what belongs to the resource; of the resource itself only the status."""
        before, after = change.before, change.after
        if change.resource is DSPYDEPLOYMENTS:
            if before is None or after is None or before["spec"] != after["spec"]:
                self.say("S11", f"{change.call.what} changes more than the status")
            return
        owners = change.live["metadata"].get("ownerReferences") or []
        uids = {owner["uid"] for owner in owners}
        if change.resource is PODS:
            return
        if before is None and self.people.removed:
            return  # it was under way when its owner went, and goes with it
        owner = self.people.find_deployment()
        if owner is not None and owner["metadata"]["uid"] not in uids:
            self.say("S11", f"{change.call.what} touches what is not ours")

    def _note_lowered(self, change: Change) -> None:
        status = (change.after or {}).get("status") or {}
        if status.get("phase") in LOWERED:
            self.lowered.add(change.live["metadata"]["uid"])

    # --- the routing table --------------------------------------------------------------------------------------

    def _check_table(self, change: Change) -> None:
        table, before = self._read(change.after), self._read(change.before)
        if table is None:
            self.say("S1", "the operator wrote no table")
            return
        split = table.split
        if sum(share.weight for share in split.shares) != 100 or split.weight not in WEIGHTS:
            self.say("S1", f"weights {[share.weight for share in split.shares]}")
        if len({share.slot for share in split.shares}) != len(
            {share.program.sha256 for share in split.shares}
        ):
            self.say("S1", "two programs in one slot")
        if before is not None and table.generation < before.generation:
            self.say("S1", "an older generation")
        canary = split.canary
        if canary is not None and canary.weight > _get_weight(before, canary):
            self._check_raise(change, canary)

    def _check_raise(self, change: Change, canary: Share) -> None:
        """S2, S4, S5, S7, S15: who gets more than before."""
        status = (self.people.find_deployment() or {}).get("status") or {}
        pointer = status.get("canary") or {}
        rollout = self.find_rollout(pointer.get("rolloutUID", ""))
        revision = canary.program.revision
        if any(entry["revision"] == revision for entry in status.get("rejected") or ()):
            self.say("S5", f"{revision} is rejected and gets {canary.weight} %")
        if rollout is None:
            if not self.was_deleted("rollout") and not self.people.removed:
                self.say("S4", f"{revision} gets {canary.weight} % without an attempt")
            return
        record = rollout.get("status") or {}
        if rollout["spec"]["to"]["revision"] != revision:
            self.say(
                "S4", f"{revision} gets {canary.weight} %, on trial is {rollout['spec']['to']['revision']}"
            )
        if canary.weight > (record.get("weight") or 0):
            self.say("S4", f"{canary.weight} % where the record says {record.get('weight')}")
        if rollout["metadata"]["uid"] in self.lowered:
            self.say("S7", f"{revision} was given up and gets {canary.weight} %")
        self._check_gate(rollout, record)
        self._check_basis(change, rollout, pointer)
        self._check_ready(canary, fast=bool(rollout["spec"].get("fast")))

    def _check_gate(self, rollout: Object, record: dict[str, Any]) -> None:
        """S4: past the regression gate by its verdict on these two programs, or by a person."""
        spec = rollout["spec"]
        if not spec.get("regression") or spec.get("fast"):
            return
        if {"promote", "promote-full"} & (record.get("handledCommands") or {}).keys():
            return
        if (spec["to"]["sha256"], spec["from"]["sha256"]) not in self.jobs.passed:
            self.say("S4", f"{spec['to']['revision']} gets traffic and no run of the gate has passed it")

    def _check_basis(self, change: Change, rollout: Object, pointer: dict[str, Any]) -> None:
        """S15: the writer had not read that the spec had moved on."""
        wanted = {rollout["spec"]["to"]["sha256"], rollout["spec"]["from"]["sha256"]}
        is_undo = pointer.get("source") != rollout["spec"]["to"]["revision"]
        if change.basis and change.basis not in wanted and not is_undo and not self.weather.plan.queue:
            self.say(
                "S15", f"the spec asks for program {change.basis[:8]}, raised is {pointer.get('revision')}"
            )

    def _check_ready(self, canary: Share, *, fast: bool) -> None:
        """S2: its record and its bytes are there, and every pod that has been ready for a while has loaded it."""
        program = canary.program
        store = self.weather.store
        kept = names.revision_name(NAME, program.revision)
        if store.find(CONTROLLERREVISIONS, NAMESPACE, kept) is None and not self.was_deleted(kept):
            self.say("S2", f"{program.revision} has no ControllerRevision")
        if self._get_slot_digest(canary.slot) != program.sha256 and not self.was_deleted("slot"):
            self.say("S2", f"slot {canary.slot} does not hold the program of {program.revision}")
        pods = [pod for pod in self.kubelet.pods.values() if pod.workload == program.workload and pod.ready]
        old = [pod for pod in pods if self.weather.time - pod.ready_since > KNOWN_FOR]
        if not all(pod.is_loaded(program.revision) for pod in old) and not fast:
            self.say("S2", f"a pod has not loaded {program.revision}, which gets {canary.weight} %")

    # --- capacity -----------------------------------------------------------------------------------------------

    def _check_slot(self, change: Change) -> None:
        """W6: nobody may be answering with what is overwritten."""
        before, after = (find_digest(obj) if obj else None for obj in (change.before, change.after))
        if before is None or before == after:
            return
        name, digest = change.live["metadata"]["name"], before
        path = names.slot_path(int(name[-1]))
        users = [pod.name for pod in self._list_pods() if (path, digest) in pod.list_in_use()]
        if users:
            self.say("W6", f"{name} is overwritten while {', '.join(users)} answer with it")
        table = self._read_live_table()
        for share in table.split.shares if table else ():
            if share.weight and names.slot_path(share.slot) == path and share.program.sha256 == digest:
                self.say("S2", f"{name} is overwritten while {share.program.revision} has {share.weight} %")

    def _check_capacity(self, change: Change) -> None:
        """S3: the pods of stable stay."""
        workload = self.find_stable_workload()
        is_stable = workload and change.live["metadata"]["name"] == names.deployment_name(NAME, workload)
        if change.after is None and is_stable:
            self.say("S3", "the pods of the stable revision are removed")

    def _check_revision_is_unused(self, change: Change) -> None:
        """S2: V goes last."""
        gone = change.live["data"]["revision"]
        status = (self.people.find_deployment() or {}).get("status") or {}
        used = {(status.get(part) or {}).get("revision") for part in ("stable", "canary")}
        table = self._read_live_table()
        used |= {share.program.revision for share in table.split.shares} if table else set()
        if gone in used:
            self.say("S2", f"the ControllerRevision of {gone} is deleted while it is in use")

    # --- what there is ------------------------------------------------------------------------------------------

    def find_stable_workload(self) -> str:
        """The pods that stable lives in; empty while there is none, or nobody knows."""
        stable = ((self.people.find_deployment() or {}).get("status") or {}).get("stable") or {}
        kept = names.revision_name(NAME, stable.get("revision", ""))
        record = self.weather.store.find(CONTROLLERREVISIONS, NAMESPACE, kept)
        return str(stable.get("workload") or (record["data"]["workload"] if record else ""))

    def find_rollout(self, uid: str) -> Object | None:
        found = self.weather.store.list_(DSPYROLLOUTS, NAMESPACE)
        return next((obj for obj in found if obj["metadata"]["uid"] == uid), None)

    def _read(self, config_map: Object | None) -> Table | None:
        return read_table(config_map, Owner(NAMESPACE, NAME, ""), None)

    def read_split(self, config_map: Object | None) -> Split | None:
        """What a table says."""
        table = self._read(config_map)
        return table.split if table else None

    def _read_live_table(self) -> Table | None:
        return self._read(self.weather.store.find(CONFIGMAPS, NAMESPACE, names.routes_name(NAME)))

    def _get_slot_digest(self, slot: int) -> str:
        found = self.weather.store.find(CONFIGMAPS, NAMESPACE, names.slot_name(NAME, slot))
        return (find_digest(found) if found else None) or ""

    def _list_pods(self) -> list[Pod]:
        return [pod for pod in self.kubelet.pods.values() if pod.owner == NAME and pod.ready]

    def was_deleted(self, part: str) -> bool:
        """Whether people deleted something of that name lately."""
        now = self.weather.time
        return any(part in name and now - at < LONG_AGO for name, at in self.people.deleted.items())


def _get_weight(table: Table | None, canary: Share) -> int:
    """What the same revision had before."""
    shares = table.split.shares if table else ()
    return sum(share.weight for share in shares if share.program.revision == canary.program.revision)
