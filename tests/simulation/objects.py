"""What the simulated API server makes of objects as a whole, without changing one in place.

Used by `store.py`.
"""

from typing import Any

from tests.simulation import fields

Object = dict[str, Any]


def build_partial(obj: Object, kind: str) -> Object:
    """The object as who asks for metadata only gets it."""
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def has_labels(obj: Object, wanted: list[list[str]]) -> bool:
    """Whether it has all of these labels, each a key and a value, or a key alone."""
    if not wanted:
        return True
    labels = obj["metadata"].get("labels") or {}
    return all(key in labels and value in ([], [labels[key]]) for key, *value in wanted)


def get_identity(obj: Object) -> Object:
    """The metadata that belong to nobody: name, uid, times, versions."""
    return {key: value for key, value in obj["metadata"].items() if key in fields.UNOWNED}


def build_bare(obj: Object) -> Object:
    """The object without what belongs to nobody."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in fields.UNOWNED}
    return {**obj, "metadata": meta}


def build_kept(live: Object, changed: Object) -> Object:
    """No patch changes who the object is; empty maps of metadata are none."""
    meta = {
        key: value
        for key, value in changed["metadata"].items()
        if key == "managedFields" or value not in ({}, [])
    }
    identity = {key: value for key, value in get_identity(live).items() if key != "managedFields"}
    deletion = {key: value for key, value in live["metadata"].items() if key == "deletionTimestamp"}
    return {**changed, "metadata": {**meta, **identity, **deletion}}


def build_with_status(changed: Object, live: Object) -> Object:
    """The changed object with the status that it had: it has an endpoint of its own."""
    rest = {key: value for key, value in changed.items() if key != "status"}
    return {**rest, "status": live["status"]} if "status" in live else rest
