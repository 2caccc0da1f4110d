"""Whether a live object is what we want of it: the API server adds defaults, other controllers add fields."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

_EMPTY: Final[tuple[object, ...]] = ({}, [], None, "")


def is_covered(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is in the live value; what is there besides does not matter."""
    if live == wanted:
        return True
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return wanted in _EMPTY and live in _EMPTY
        return all(
            is_covered(live[key], value) if key in live else value in _EMPTY for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(live) != len(wanted):
            return False
        return all(is_covered(one, other) for one, other in zip(live, wanted, strict=True))
    return False


def digest_manifest(manifest: Mapping[str, Any]) -> str:
    """A short digest (16 hex) of what was applied."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
