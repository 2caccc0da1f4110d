"""DSPy's cache of LM calls, with a key that says whose call it was and with our tiers behind it.

DSPy's own shares answers between gateways (no address in its key) and runs pickle on what it finds on a disk.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import dspy
from dspy.clients.cache import Cache
from dspy.clients.call_result import CACHE_FORMAT, CallResult


class Tiers(Protocol):
    """Where records of answered calls are kept: plain JSON values by key."""

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The record of that key."""

    def keep(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a record; it may be forgotten at any time."""

    @property
    def is_in_memory(self) -> bool:
        """Whether neither of the two ever waits for a disk."""


class ScopedCache(Cache):  # type: ignore[misc]  # dspy has no types
    """What DSPy asks before it asks an LM; outside of a scope nothing is found and nothing is kept."""

    def __init__(self, tiers: Tiers, get_scope: Callable[[], str]) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self._tiers = tiers
        self._get_scope = get_scope

    @property
    def is_in_memory(self) -> bool:
        """Whether nobody ever waits for it."""
        return self._tiers.is_in_memory

    def cache_key(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> str:
        """DSPy's key, which leaves out addresses too, made of all but the API key, and the scope."""
        ignored = [name for name in ignored_args_for_cache_key or [] if name == _API_KEY]
        own = super().cache_key(request, ignored)
        return hashlib.sha256(f"{self._get_scope()}\n{own}".encode()).hexdigest()

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        """The record of an equal call of this scope."""
        key = self._find_key(request, ignored_args_for_cache_key)
        return None if key is None else self._tiers.find(key)

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,  # noqa: FBT001, FBT002 - DSPy's signature
    ) -> None:
        """Keep the record of a call; what is no plain record is not kept."""
        if not enable_memory_cache or not isinstance(value, dict) or value.get(_FORMAT) != CACHE_FORMAT:
            return
        key = self._find_key(request, ignored_args_for_cache_key)
        if key is not None:
            self._tiers.keep(key, value)

    def _find_key(self, request: dict[str, Any], ignored: list[str] | None) -> str | None:
        if not self._get_scope():
            return None
        try:
            return self.cache_key(request, ignored)
        except Exception:  # noqa: BLE001 - DSPy's promise too: a call without a key is asked, it does not fail
            return None


_API_KEY: Final = "api_key"
_FORMAT: Final = "_dspy_format"


def is_record(value: object) -> bool:
    """Whether DSPy could read an answer from a record: what lies on a disk may be anything."""
    if not isinstance(value, dict) or value.get(_FORMAT) != CACHE_FORMAT:
        return False
    try:
        outputs = CallResult.load(value).outputs
    except Exception:  # noqa: BLE001 - whatever reading a foreign record raises, it is none
        return False
    return isinstance(outputs, list) and bool(outputs)


def install_cache(tiers: Tiers, get_scope: Callable[[], str]) -> None:
    """Let DSPy keep answered LM calls in `tiers`, each within the scope that `get_scope` says."""
    dspy.cache = ScopedCache(tiers, get_scope)
