"""What is asked of both API servers, the real one and the simulated one: every kind of request that the operator makes.

Called by `recording.py`. Errors are answers here: what counts is what the server says.
"""

import contextlib
from collections.abc import Awaitable
from typing import Any, TypedDict

from tests.simulation.fidelity.samples import NAMESPACE, OTHER_LABELS, build, list_labels
from tests.simulation.shapes import SERVED

from dspy_operator.errors import OperatorError
from dspy_operator.kube.client import MERGE_PATCH, Call, Client, Object
from dspy_operator.kube.resources import (
    CONFIGMAPS,
    CONTROLLERREVISIONS,
    DEPLOYMENTS,
    DSPYDEPLOYMENTS,
    DSPYROLLOUTS,
    LEASES,
    PDBS,
    PODMONITORS,
    PODS,
    SERVICES,
    Resource,
)

WRONG_UID = "00000000-0000-0000-0000-000000000000"
NOTE = "example.org/note"


async def play(client: Client) -> None:
    """All scenes, one after the other."""
    for resource in SERVED:
        await _live_and_die(client, resource)
        await _die_slowly(client, resource)
    for resource in (CONFIGMAPS, DEPLOYMENTS, SERVICES, PDBS):
        await _apply(client, resource)
    for resource in (DSPYDEPLOYMENTS, DSPYROLLOUTS, DEPLOYMENTS, PODS):
        await _write_status(client, resource)
    await _count_generations(client)
    await _change_what_never_changes(client)
    await _ask_for_what_is_not_there(client)


async def _try(asked: Awaitable[Any]) -> Any:
    """The answer, None for an error."""
    with contextlib.suppress(OperatorError):
        return await asked
    return None


class Bound(TypedDict):
    """What a write is bound to."""

    uid: str
    resource_version: str


def _bound(obj: Object) -> Bound:
    return Bound(uid=obj["metadata"]["uid"], resource_version=obj["metadata"]["resourceVersion"])


async def _live_and_die(client: Client, resource: Resource) -> None:
    """From nothing to nothing: reads, unbound and bound merges (a ControllerRevision takes none), bound deletes."""
    name = "life"
    place = (resource, NAMESPACE, name)
    await _try(client.find(*place))
    await _try(client.annotate(*place, {NOTE: "early"}))
    await _try(client.delete(*place, uid=WRONG_UID))
    made = await client.create(resource, build(resource, name))
    await _try(client.create(resource, build(resource, name)))
    await _try(client.find(*place))
    await _try(client.find(*place, metadata_only=True))
    await _try(client.list_(resource, NAMESPACE, labels=list_labels(name)))
    await _try(client.list_(resource, NAMESPACE, labels=list_labels(name), metadata_only=True))
    await _try(client.list_(resource, NAMESPACE, labels=OTHER_LABELS))
    noted = await _try(client.annotate(*place, {NOTE: "1"})) or made
    await _try(client.annotate(*place, {NOTE: "1"}))
    bare = await _try(client.annotate(*place, {NOTE: None})) or made
    await _try(client.annotate(*place, {NOTE: None}))
    version = bare["metadata"]["resourceVersion"]
    labelled = {"metadata": {"labels": {"more": "yes"}}}
    await _try(client.merge(*place, labelled, resource_version=noted["metadata"]["resourceVersion"]))
    await _try(
        client.merge(*place, {"metadata": {"uid": WRONG_UID, "labels": {"a": "b"}}}, resource_version=version)
    )
    last = await _try(client.merge(*place, labelled, resource_version=version)) or made
    await _try(client.delete(*place, uid=WRONG_UID))
    await _try(client.delete(*place, **_bound(made)))
    if resource is not PODS:  # a pod without a node goes at once only without its grace period
        await _try(client.delete(*place, **_bound(last)))
        await _try(client.delete(*place, **_bound(last)))
        await _try(client.find(*place))
        await _try(client.merge(*place, labelled))


async def _die_slowly(client: Client, resource: Resource) -> None:
    """A finalizer holds what was deleted until it is taken away."""
    if resource in {PODS, CONTROLLERREVISIONS}:
        return
    name = "slow"
    place = (resource, NAMESPACE, name)
    sample = build(resource, name)
    sample["metadata"]["finalizers"] = ["example.org/hold"]
    made = await client.create(resource, sample)
    await _try(client.delete(*place, uid=made["metadata"]["uid"]))
    await _try(client.find(*place))
    await _try(client.delete(*place, uid=made["metadata"]["uid"]))
    await _try(client.create(resource, build(resource, name)))
    await _try(client.annotate(*place, {NOTE: "dying"}))
    await _try(client.merge(*place, {"metadata": {"finalizers": None}}))
    await _try(client.find(*place))
    for policy in ("Foreground", "Orphan", "Background"):
        made = await client.create(resource, build(resource, name))
        body = {"preconditions": {"uid": made["metadata"]["uid"]}, "propagationPolicy": policy}
        await _try(client._call(Call("delete", resource, resource.path(NAMESPACE, name), body=body)))
        await _try(client.find(*place))
        await _try(client.merge(*place, {"metadata": {"finalizers": None}}))
        await _try(client.find(*place))


async def _apply(client: Client, resource: Resource) -> None:
    """Server-side apply over what was created: who owns what, what goes, what stays."""
    name = "apply"
    place = (resource, NAMESPACE, name)
    await _try(client.apply(resource, build(resource, name), uid=WRONG_UID, resource_version="1"))
    made = await client.create(resource, build(resource, name, extra=True))
    same = await client.apply(resource, build(resource, name, extra=True), **_bound(made))
    again = await client.apply(resource, build(resource, name, extra=True), **_bound(same))
    less = await client.apply(resource, build(resource, name), **_bound(again))
    await _try(client.apply(resource, build(resource, name, extra=True), **_bound(made)))
    await _try(
        client.apply(
            resource, build(resource, name), uid=WRONG_UID, resource_version=_bound(less)["resource_version"]
        )
    )
    labelled = {"metadata": {"labels": {"theirs": "yes"}, "annotations": {NOTE: "theirs"}}}
    call = Call(
        "patch",
        resource,
        resource.path(NAMESPACE, name),
        {"fieldManager": "people"},
        labelled,
        content=MERGE_PATCH,
    )
    theirs = await client._get(call)
    ours = await client.apply(resource, build(resource, name, extra=True), **_bound(theirs))
    wanted = build(resource, name)
    wanted["metadata"]["annotations"] = {NOTE: "ours"}
    taken = await client.apply(resource, wanted, **_bound(ours))
    released = await client.apply(resource, build(resource, name), **_bound(taken))
    await _try(client.apply(resource, build(resource, name), **_bound(released)))
    await _try(client.find(*place))
    await _try(client.delete(*place, **_bound(released)))


async def _write_status(client: Client, resource: Resource) -> None:
    """The status is written by itself, bound, and merged."""
    name = "status"
    place = (resource, NAMESPACE, name)
    first, second = STATUSES[resource]
    await _try(client.patch_status(*place, first, uid=WRONG_UID, resource_version="1"))
    sample = build(resource, name) | {"status": first}
    made = await client.create(resource, sample)
    changed = await client.patch_status(*place, first, **_bound(made))
    changed = await _try(client.patch_status(*place, first, **_bound(changed))) or changed
    await _try(client.patch_status(*place, second, **_bound(made)))
    await _try(
        client.patch_status(
            *place, second, uid=WRONG_UID, resource_version=_bound(changed)["resource_version"]
        )
    )
    await _try(client.patch_status(*place, second, **_bound(changed)))
    await _try(client.merge(*place, {"status": first}))
    noted = await client.annotate(*place, {NOTE: "1"})
    empty = await _try(client.patch_status(*place, dict.fromkeys(first), **_bound(noted))) or noted
    spec = {"metadata": {"annotations": {NOTE: "2"}}, "status": first, "spec": {"replicas": 7}}
    path = resource.path(NAMESPACE, name, "status")
    if resource is not PODS:
        await _try(
            client._call(Call("patch", resource, path, {"fieldManager": "x"}, spec, content=MERGE_PATCH))
        )
    await _try(client.find(*place))
    if resource is not PODS:
        await _try(client.delete(*place, uid=empty["metadata"]["uid"]))


STATUSES: dict[Resource, tuple[Object, Object]] = {
    DSPYDEPLOYMENTS: (
        {"message": "one", "stable": {"revision": "0123456789", "sha256": "a" * 64}},
        {"message": "two", "stable": None},
    ),
    DSPYROLLOUTS: ({"phase": "Preparing", "step": 0}, {"phase": "Stepping", "weight": 10}),
    DEPLOYMENTS: ({"observedGeneration": 1, "replicas": 1}, {"observedGeneration": None, "replicas": 2}),
    PODS: ({"message": "one", "reason": "One"}, {"message": "two", "reason": None}),
}


async def _count_generations(client: Client) -> None:
    """The generation counts changes of the spec, nothing else."""
    for resource in (DSPYDEPLOYMENTS, DEPLOYMENTS):
        place = (resource, NAMESPACE, "generation")
        made = await client.create(resource, build(resource, "generation"))
        for replicas in (2, 2, 3):
            await _try(client.merge(*place, {"spec": {"replicas": replicas}}))
        await _try(client.annotate(*place, {NOTE: "1"}))
        await _try(client.merge(*place, {"metadata": {"labels": {"a": "b"}}}))
        await _try(client.delete(*place, uid=made["metadata"]["uid"]))


async def _change_what_never_changes(client: Client) -> None:
    """Immutable fields."""
    changes: tuple[tuple[Resource, Object, Object], ...] = (
        (CONFIGMAPS, {"immutable": True}, {"data": {"a": "other"}}),
        (CONFIGMAPS, {"immutable": True}, {"immutable": None}),
        (CONFIGMAPS, {"immutable": True}, {"metadata": {"labels": {"a": "b"}}}),
        (CONTROLLERREVISIONS, {}, {"data": {"revision": "other"}}),
        (CONTROLLERREVISIONS, {}, {"revision": 2}),
        (DSPYROLLOUTS, {}, {"spec": {"attempt": 2}}),
        (DEPLOYMENTS, {}, {"spec": {"selector": {"matchLabels": {"app": "other"}}}}),
    )
    for number, (resource, more, change) in enumerate(changes):
        name = f"fixed-{number}"
        made = await client.create(resource, build(resource, name) | more)
        await _try(client.merge(resource, NAMESPACE, name, change))
        await _try(client.find(resource, NAMESPACE, name))
        await _try(client.delete(resource, NAMESPACE, name, **_bound(made)))
        await _try(client.delete(resource, NAMESPACE, name, uid=made["metadata"]["uid"]))


async def _ask_for_what_is_not_there(client: Client) -> None:
    """Namespaces, kinds and names that do not exist."""
    await _try(client.find(PODMONITORS, NAMESPACE, "any"))
    await _try(client.list_(PODMONITORS, NAMESPACE))
    for resource in SERVED:
        lost = build(resource, "lost")
        lost["metadata"]["namespace"] = "nowhere"
        await _try(client.create(resource, lost))
        await _try(client.find(resource, "nowhere", "lost"))
        await _try(client.list_(resource, "nowhere", labels=OTHER_LABELS))
    lease = build(LEASES, "race")
    first = await client.create(LEASES, lease)
    version = first["metadata"]["resourceVersion"]
    for holder in ("one", "two"):
        await _try(
            client.merge(
                LEASES, NAMESPACE, "race", {"spec": {"holderIdentity": holder}}, resource_version=version
            )
        )
    await _try(client.find(LEASES, NAMESPACE, "race"))
