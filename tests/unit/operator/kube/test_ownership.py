"""Joining what we created with what we apply, so that an apply can remove it."""

from typing import Any

from dspy_operator.kube.ownership import find_joined_ownership


def entry(operation: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    return {"manager": "dspy-operator", "operation": operation, "fieldsV1": fields} | more


def obj(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


CREATED: dict[str, Any] = {"f:data": {".": {}, "f:a": {}, "f:b": {}}}
APPLIED: dict[str, Any] = {"f:data": {"f:a": {}}}


def test_what_creation_set_and_the_apply_has_not_is_joined_to_the_apply() -> None:
    theirs = entry("Update", {"f:status": {}}, manager="kubelet")
    joined = find_joined_ownership(obj(theirs, entry("Update", CREATED), entry("Apply", APPLIED)))
    assert joined == [theirs, entry("Apply", {"f:data": {".": {}, "f:a": {}, "f:b": {}}})]


def test_nothing_is_to_be_done_when_the_apply_holds_it_all() -> None:
    assert find_joined_ownership(obj(entry("Update", CREATED), entry("Apply", CREATED))) is None
    assert (
        find_joined_ownership(obj(entry("Update", {"f:data": {".": {}}}), entry("Apply", {"f:data": {}})))
        is None
    )


def test_nothing_is_to_be_done_without_both_entries() -> None:
    assert find_joined_ownership({"metadata": {}}) is None
    assert find_joined_ownership(obj(entry("Update", CREATED))) is None
    assert find_joined_ownership(obj(entry("Apply", APPLIED))) is None


def test_other_writers_and_the_status_stay_theirs() -> None:
    foreign = entry("Update", CREATED, manager="kubectl")
    status = entry("Update", {"f:status": {}}, subresource="status")
    assert find_joined_ownership(obj(foreign, status, entry("Apply", APPLIED))) is None
