"""Reading untyped API objects without surprises: absent or oddly typed parts read as empty. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def mapping(obj: Mapping[str, Any] | None, *path: str) -> Mapping[str, Any]:
    """Return the mapping at a path, empty if there is none."""
    found: Any = obj
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def list_of(obj: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list at a key, empty if there is none."""
    found = obj.get(key)
    return found if isinstance(found, list) else []


def mappings(obj: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the mappings in the list at a key."""
    return [item for item in list_of(obj, key) if isinstance(item, Mapping)]


def text(obj: Mapping[str, Any], key: str) -> str:
    """Return the value at a key as text, empty if there is none."""
    found = obj.get(key)
    return "" if found is None else str(found)


def integer(obj: Mapping[str, Any], key: str) -> int | None:
    """Return the integer at a key, None if there is none."""
    found = number(obj, key)
    return None if found is None else int(found)


def number(obj: Mapping[str, Any], key: str) -> float | None:
    """Return the number at a key, also where it is written as a string; None if there is none."""
    try:
        return float(obj[key])
    except (KeyError, TypeError, ValueError):
        return None


def parse_time(value: str) -> float | None:
    """Return the epoch seconds of an RFC 3339 time, None if it is none."""
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo else None
