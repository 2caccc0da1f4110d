"""The API server in memory: what each request of the operator's client does to the objects, and what it answers.

Called by `client.py` and by everyone in the simulated world; held to the real one by `fidelity/`. An object is never
changed in place: a write makes a new one, so that whoever reads may keep what was read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tests.simulation import fields, objects
from tests.simulation.answers import Answer, Refused, fail, succeed
from tests.simulation.shapes import (
    ANSWERS_WITH_THE_OBJECT,
    CUSTOM,
    GENERATED,
    KINDS,
    STATUS,
    TRACKED,
    fill_defaults,
    is_wanted_otherwise,
    list_wrong,
)

from dspy_operator.kube.client import APPLY_PATCH, MERGE_PATCH, METADATA, METADATA_LIST, Call
from dspy_operator.kube.resources import CONTROLLERREVISIONS, Resource
from dspy_operator.rollout.clock import format_time

Object = dict[str, Any]
Place = tuple[str, str]

FIELD_MANAGER: Final = "fieldManager"
FOREGROUND: Final = "foregroundDeletion"
PROPAGATION: Final = {"Foreground": FOREGROUND, "Orphan": "orphan"}


@dataclass(frozen=True)
class Change:
    """What one write did: `before` is None for what was created, `after` for what was deleted."""

    at: float
    who: str
    resource: Resource
    before: Object | None
    after: Object | None
    call: Call
    basis: str = ""
    """Digest of the program that the spec asked for when the writer had read it last."""

    @property
    def live(self) -> Object:
        """The newest version of the object."""
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True)
class Target:
    """What a path names."""

    namespace: str
    name: str
    subresource: str


@lru_cache(4096)
def parse_path(path: str, plural: str) -> Target:
    """Namespace (empty: all), name (empty: the collection) and subresource."""
    parts = path.strip("/").split("/")
    namespace = (
        parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] and plural != "namespaces" else ""
    )
    rest = [*parts[parts.index(plural, len(parts) - 3 if len(parts) > 3 else 0) + 1 :], "", ""]
    return Target(namespace, rest[0], rest[1])


class Store:
    """Objects by kind and place, and who is told of changes."""

    def __init__(
        self, now: Callable[[], float], namespaces: tuple[str, ...] = ("ml", "dspy-operator")
    ) -> None:
        self.now = now
        self.listeners: list[Callable[[Change], None]] = []
        self.writes = 0
        self._namespaces = frozenset(namespaces)
        self._objects: dict[str, dict[Place, Object]] = {}
        self._listed: dict[str, dict[tuple[str, ...], list[Object]]] = {}
        """Per kind, what lists of it gave since its last write."""
        self._version = 100
        self._uids = 0
        self._basis = ""

    # --- for the rest of the simulated world ------------------------------------------------------------------

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        return self._objects.get(resource.plural, {}).get((namespace, name))

    def list_(self, resource: Resource, namespace: str = "") -> list[Object]:
        return [*self._remember(resource, (namespace,), lambda: self._sort(resource, namespace))]

    def _sort(self, resource: Resource, namespace: str) -> list[Object]:
        found = self._objects.get(resource.plural, {})
        places = sorted(place for place in found if not namespace or place[0] == namespace)
        return [found[place] for place in places]

    def _remember(
        self, resource: Resource, question: tuple[str, ...], answer: Callable[[], list[Object]]
    ) -> list[Object]:
        """The same question gets the same answer until the kind is written: passes ask more often than they write."""
        known = self._listed.setdefault(resource.plural, {})
        found = known.get(question)
        if found is None:
            found = known[question] = answer()
        return found

    # --- requests -----------------------------------------------------------------------------------------------

    def handle(self, call: Call, who: str = "operator", basis: str = "") -> Answer:
        """One request, at once; `basis` is kept with the changes that it makes."""
        self._basis = basis
        target = parse_path(call.path, call.resource.plural)
        if call.resource not in KINDS:
            return Answer(404, {})
        try:
            return self._act(call, target, who)
        except Refused as refused:
            return refused.answer

    def _act(self, call: Call, target: Target, who: str) -> Answer:
        match call.verb:
            case "get":
                return self._get(call, target)
            case "list":
                return self._list(call, target)
            case "create":
                return self._create(call, target, who)
            case "patch":
                return self._patch(call, target, who)
            case _:
                return self._delete(call, target, who)

    def _get(self, call: Call, target: Target) -> Answer:
        found = self._require(call.resource, target)
        return succeed(
            objects.build_partial(found, "PartialObjectMetadata") if call.accept == METADATA else found
        )

    def _list(self, call: Call, target: Target) -> Answer:
        selector = call.query.get("labelSelector", "")
        question = (target.namespace, selector, call.accept)
        items = self._remember(call.resource, question, lambda: self._select(call, target, selector))
        return succeed({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _select(self, call: Call, target: Target, selector: str) -> list[Object]:
        wanted = [pair.split("=", 1) for pair in filter(None, selector.split(","))]
        items = [
            obj for obj in self.list_(call.resource, target.namespace) if objects.has_labels(obj, wanted)
        ]
        if call.accept == METADATA_LIST:
            return [objects.build_partial(obj, "PartialObjectMetadata") for obj in items]
        return items

    def _create(self, call: Call, target: Target, who: str) -> Answer:
        body = call.body or {}
        if target.namespace not in self._namespaces:
            raise Refused(fail(404, "NotFound", f'namespaces "{target.namespace}" not found'))
        meta = body["metadata"]
        name = meta["name"]
        if self.find(call.resource, target.namespace, name) is not None:
            raise Refused(fail(409, "AlreadyExists", f'{_qualified(call.resource)} "{name}" already exists'))
        self._uids += 1
        made = fill_defaults(call.resource, body)
        if call.resource in STATUS:
            made = {key: value for key, value in made.items() if key != "status"}
        own = {
            **{key: value for key, value in meta.items() if key != "resourceVersion"},
            "namespace": target.namespace,
            "uid": f"00000000-0000-4000-8000-{self._uids:012x}",
            "creationTimestamp": format_time(self.now()),
        }
        if call.resource in GENERATED:
            own["generation"] = 1
        if call.resource in TRACKED:
            own["managedFields"] = fields.list_entries(
                [], _manager(call), "Update", fields.build_fields(made), {}
            )
        return self._commit(call, who, None, {**made, "metadata": own}, status=201)

    def _patch(self, call: Call, target: Target, who: str) -> Answer:
        live = self.find(call.resource, target.namespace, target.name)
        if call.content == APPLY_PATCH:
            return self._apply(call, target, who, live)
        if live is None:
            raise _missing(call.resource, target.name)
        body = call.body or {}
        self._check_bound(call, live, body.get("metadata") or {})
        changed = fields.merge_patch(live, body)
        changed = objects.build_kept(live, changed)
        if target.subresource == "status":
            meta = live["metadata"] if call.resource in CUSTOM else changed["metadata"]
            changed = {**live, "metadata": meta, "status": changed.get("status") or {}}
        elif call.resource in STATUS:
            changed = objects.build_with_status(changed, live)
        if changed == live:
            return succeed(live)
        if call.resource in TRACKED and not target.subresource:
            changed = self._book_update(call, live, changed, body)
        return self._commit(call, who, live, changed)

    def _book_update(self, call: Call, live: Object, changed: Object, body: Object) -> Object:
        """Who changes a field owns it, unless the request says itself who owns what."""
        if "managedFields" in (body.get("metadata") or {}):
            return changed
        entries = live["metadata"].get("managedFields") or []
        bare_live, bare = (objects.build_bare(obj) for obj in (live, changed))
        gained = fields.build_changed(bare_live, bare)
        lost = fields.subtract(fields.build_fields(bare_live), fields.build_fields(bare))
        before = fields.find_entry(entries, _manager(call), "Update")
        owned = fields.union(fields.subtract(before, lost), gained)
        entries = fields.list_entries(entries, _manager(call), "Update", owned, fields.union(gained, lost))
        return {**changed, "metadata": {**changed["metadata"], "managedFields": entries}}

    def _apply(self, call: Call, target: Target, who: str, live: Object | None) -> Answer:
        body = call.body or {}
        if live is None:
            raise Refused(
                fail(
                    409,
                    "Conflict",
                    f"uid mismatch: {body['metadata'].get('uid')}, and no existing object was found",
                )
            )
        self._check_bound(call, live, body["metadata"])
        entries = live["metadata"].get("managedFields") or []
        wanted = fields.build_fields(body)
        before = fields.find_entry(entries, _manager(call), "Apply")
        others: fields.Tree = {}
        for entry in entries:
            if (entry["manager"], entry["operation"]) != (_manager(call), "Apply"):
                others = fields.union(others, entry["fieldsV1"])
        gone = fields.subtract(fields.subtract(before, wanted), others)
        bare = objects.build_bare(body)
        merged = fields.merge_applied(live, bare)
        if gone:
            merged = {**merged, **fields.remove_fields(objects.build_bare(merged), gone)}
            merged["metadata"] = {**objects.get_identity(live), **merged.get("metadata", {})}
        merged = fill_defaults(call.resource, objects.build_kept(live, merged))
        taken = fields.build_changed(objects.build_bare(live), bare)
        entries = fields.list_entries(entries, _manager(call), "Apply", wanted, taken)
        merged["metadata"] = {**merged["metadata"], "managedFields": entries}
        return succeed(live) if merged == live else self._commit(call, who, live, merged)

    def _delete(self, call: Call, target: Target, who: str) -> Answer:
        live = self._require(call.resource, target)
        body = call.body or {}
        self._check_preconditions(call, live, body.get("preconditions") or {})
        finalizer = PROPAGATION.get(str(body.get("propagationPolicy")))
        meta = live["metadata"]
        finalizers = [*(meta.get("finalizers") or ()), *([finalizer] if finalizer else ())]
        if finalizers:
            if meta.get("deletionTimestamp"):
                return succeed(live)
            marked = {**meta, "deletionTimestamp": format_time(self.now()), "finalizers": finalizers}
            if "generation" in meta:
                marked["generation"] = meta["generation"] + 1
            return self._commit(call, who, live, {**live, "metadata": marked})
        last = self._remove(call, who, live)
        if call.resource in ANSWERS_WITH_THE_OBJECT:
            return succeed(last)
        details = {"name": target.name, "kind": call.resource.plural, "uid": meta["uid"]}
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        return succeed(status)

    # --- parts --------------------------------------------------------------------------------------------------

    def _require(self, resource: Resource, target: Target) -> Object:
        found = self.find(resource, target.namespace, target.name)
        if found is None:
            raise _missing(resource, target.name)
        return found

    def _check_bound(self, call: Call, live: Object, meta: Mapping[str, Any]) -> None:
        """A uid or a version in the request must be those of the live object."""
        version = meta.get("resourceVersion") or live["metadata"]["resourceVersion"]
        # The status of a custom resource is merged whatever uid the request names.
        is_free = call.resource in CUSTOM and _is_of_status(call)
        is_other = not is_free and (meta.get("uid") or live["metadata"]["uid"]) != live["metadata"]["uid"]
        is_older = version != live["metadata"]["resourceVersion"]
        if call.verb == "patch" and not is_older:
            # A merge patch of a ControllerRevision writes its data in other bytes, which may never change.
            fixed = [
                *(["data"] if call.resource is CONTROLLERREVISIONS and call.content == MERGE_PATCH else []),
                *(["metadata.uid"] if is_other else []),
            ]
            if fixed:
                what = _name(call, live)
                raise Refused(
                    fail(422, "Invalid", f"{what} is invalid: {fixed[0]}: field is immutable", causes=fixed)
                )
        what = _name(call, live) if is_other or is_older else ""
        if is_other:
            message = f"UID in precondition: {meta['uid']}, UID in object meta: {live['metadata']['uid']}"
            raise Refused(fail(409, "Conflict", f"Operation cannot be fulfilled on {what}: {message}"))
        if is_older:
            message = (
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise Refused(fail(409, "Conflict", f"Operation cannot be fulfilled on {what}: {message}"))

    def _check_preconditions(self, call: Call, live: Object, wanted: Mapping[str, Any]) -> None:
        self._check_bound(call, live, wanted)

    def _commit(
        self, call: Call, who: str, before: Object | None, after: Object, status: int = 200
    ) -> Answer:
        if before is not None:
            self._check_valid(call.resource, before, after)
        self._version += 1
        meta = {**after["metadata"], "resourceVersion": str(self._version)}
        is_counted = call.resource in GENERATED and not _is_of_status(call)
        if before and is_counted and is_wanted_otherwise(call.resource, before, after):
            meta["generation"] = before["metadata"].get("generation", 0) + 1
        stored = {**after, "metadata": meta}
        if before is not None and meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self._remove(call, who, before)
            return succeed(
                {**after, "metadata": {**meta, "resourceVersion": before["metadata"]["resourceVersion"]}}
            )
        self._objects.setdefault(call.resource.plural, {})[meta["namespace"], meta["name"]] = stored
        self._tell(Change(self.now(), who, call.resource, before, stored, call, self._basis))
        return Answer(status, stored)

    def _check_valid(self, resource: Resource, before: Object, after: Object) -> None:
        wrong = list(list_wrong(resource, before, after))
        if wrong:
            message = f'{resource.kind} "{before["metadata"]["name"]}" is invalid: {wrong[0]}: may not be changed so'
            raise Refused(fail(422, "Invalid", message, causes=wrong))

    def _remove(self, call: Call, who: str, live: Object) -> Object:
        self._version += 1
        meta = live["metadata"]
        del self._objects[call.resource.plural][meta["namespace"], meta["name"]]
        last = {**live, "metadata": {**meta, "resourceVersion": str(self._version)}}
        self._tell(Change(self.now(), who, call.resource, last, None, call, self._basis))
        return last

    def _tell(self, change: Change) -> None:
        self.writes += 1
        self._listed.pop(change.resource.plural, None)
        for listener in self.listeners:
            listener(change)


def _is_of_status(call: Call) -> bool:
    return parse_path(call.path, call.resource.plural).subresource == "status"


def _manager(call: Call) -> str:
    return call.query.get(FIELD_MANAGER, "unknown")


def _qualified(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _name(call: Call, live: Object) -> str:
    return f'{_qualified(call.resource)} "{live["metadata"]["name"]}"'


def _missing(resource: Resource, name: str) -> Refused:
    return Refused(fail(404, "NotFound", f'{_qualified(resource)} "{name}" not found'))
