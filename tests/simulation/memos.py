"""What the operator computes again at every pass from the same objects is computed once: only for speed.

Used by `run.py`. `test_rollouts.py` holds a run with memos to the same run without.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from types import ModuleType
from typing import Any
from unittest.mock import patch

from dspy_operator.kube import client
from dspy_operator.reconcile import children, history, observe, routing, snapshot
from dspy_operator.traffic import gateway_api, process


def _parse_spec_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """Most versions of an object differ in their status alone; what has been parsed is not parsed again."""
    known: dict[int, tuple[Any, Any]] = {}

    def parse(obj: Any) -> Any:
        spec = obj["spec"]
        if id(spec) not in known:
            known[id(spec)] = real(obj).spec, spec
        return real(obj | {"spec": known[id(spec)][0]})

    return parse


def _remember(real: Callable[..., Any], key: Callable[..., Hashable]) -> Callable[..., Any]:
    known: dict[Hashable, tuple[Any, Any]] = {}

    def find(*given: Any) -> Any:
        place = key(*given)
        found = known.get(place)
        if found is None:
            found = known[place] = real(*given), given  # who is kept keeps its id
        return found[0]

    return find


def _slim_once(real: Callable[..., Any]) -> Callable[..., Any]:
    """An object of the store is never changed in place, and is read many times between two writes of it."""
    known: dict[int, tuple[Any, Any]] = {}

    def slim(resource: Any, obj: Any) -> Any:
        found = known.get(id(obj))
        if found is None:
            found = known[id(obj)] = real(resource, obj), obj
        return found[0]

    return slim


def _get_version(obj: Any) -> Hashable:
    return obj and (obj["metadata"]["uid"], obj["metadata"]["resourceVersion"])


def _get_workload(seen: Any, record: Any, replicas: int) -> Hashable:
    """A spec is shared by all versions of an object in which it is the same."""
    return id(seen.deployment["spec"]), record.revision, record.workload, replicas


def _get_service(owner: Any, name: str, workload: str | None) -> Hashable:
    return str(owner.uid), name, workload


def _get_spec(seen: Any, serving_image: str) -> Hashable:
    """The simulated spec names its image, so nothing else decides what its revision is."""
    return id(seen.deployment["spec"]), seen.source.digest, serving_image


def _get_table(config_map: Any, owner: Any, headers: Any) -> Hashable:
    return _get_version(config_map), owner.uid, headers


def _get_covered(live: Any, wanted: Any) -> Hashable:
    """What is wanted is remembered itself, so that it has one identity."""
    return _get_version(live), id(wanted)


def _get_child(child: Any, owner: Any) -> Hashable:
    return id(child), owner.uid


def _get_ids(*given: Any) -> Hashable:
    return tuple(map(id, given))


def _get_owner(owner: Any) -> Hashable:
    return str(owner.uid)


PURE: tuple[tuple[ModuleType, str, Callable[..., Hashable]], ...] = (
    (snapshot, "parse_deployment", _get_version),
    (snapshot, "parse_revision", _get_version),
    (snapshot, "is_owned", _get_child),
    (observe, "parse_rollout", _get_version),
    (observe, "read_deployment_record", _get_ids),
    (observe, "build_revision_record", _get_spec),
    (observe, "list_unsupported", _get_ids),
    (observe, "_build_rollout", _get_ids),
    (routing, "read_table", _get_table),
    (history, "parse_rollout", _get_version),
    (history, "is_as_asked", _get_ids),
    (history, "_find_past", _get_ids),
    (process, "build_service", _get_service),
    (gateway_api, "build_service", _get_service),
    (children, "build_budget", _get_owner),
    (children, "build_workload", _get_workload),
    (children, "is_covered", _get_covered),
)
"""Each with what decides what it gives."""


def remember() -> AbstractContextManager[object]:
    """While this lasts, parsing and building of what is already known takes no time."""
    stack = ExitStack()
    for module, name, key in PURE:
        real = getattr(module, name)
        real = _parse_spec_once(real) if key is _get_version and name != "parse_revision" else real
        stack.enter_context(patch.object(module, name, _remember(real, key)))
    stack.enter_context(patch.object(client, "_slim", _slim_once(client._slim)))
    return stack
