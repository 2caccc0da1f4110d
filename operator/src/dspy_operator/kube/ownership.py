"""Whose field is whose: lets a server-side apply remove what a POST had set.

Called by `client.py` after an apply; pure. The API server books the fields of a POST under (manager, Update)
and those of an apply under (manager, Apply), and an apply removes only fields that nobody else holds: without
this, whatever an object was created with would stay in it for ever.
"""

from collections.abc import Mapping
from typing import Any, Final

from dspy_operator.api.names import FIELD_MANAGER

ITSELF: Final = "."


def find_joined_ownership(obj: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The `managedFields` to write so that the next apply may remove what creation set.

    Args:
        obj: as the API server answered an apply.

    Returns:
        All entries, ours joined into one; None if creation left us nothing beyond what we apply.
    """
    entries: list[dict[str, Any]] = obj["metadata"].get("managedFields") or []
    updated = [entry for entry in entries if _is_ours(entry, "Update")]
    applied = [entry for entry in entries if _is_ours(entry, "Apply")]
    if len(updated) != 1 or len(applied) != 1:
        return None
    created_with, holds = updated[0].get("fieldsV1") or {}, applied[0].get("fieldsV1") or {}
    if _covers(holds, created_with):
        return None
    others = [entry for entry in entries if entry not in (updated[0], applied[0])]
    return [*others, applied[0] | {"fieldsV1": _union(holds, created_with)}]


def _is_ours(entry: Mapping[str, Any], operation: str) -> bool:
    names_us = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == operation
    return names_us and not entry.get("subresource")


def _covers(holds: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether every field of `wanted` is in `holds`; that a container exists is no field of its own."""
    return all(key in holds and _covers(holds[key], below) for key, below in wanted.items() if key != ITSELF)


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _union(one.get(key) or {}, other.get(key) or {}) for key in sorted(one.keys() | other.keys())
    }
