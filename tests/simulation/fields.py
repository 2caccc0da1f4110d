"""Whose field is whose on the simulated API server: trees like `managedFields`, and what an apply does with them.

Called by `store.py`; pure. As far as the operator's kinds need it: maps by key, the lists below by theirs.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Tree = dict[str, Any]

WHOLE: Final = frozenset(
    {"selector", "nodeSelector", "fieldRef", "resourceFieldRef", "secretKeyRef", "configMapKeyRef"}
)
"""Maps that are one field."""

KEYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "volumes": (("name",),),
    "env": (("name",),),
    "volumeMounts": (("mountPath",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "ownerReferences": (("uid",),),
    "conditions": (("type",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
}
"""Lists whose items have names of their own."""

ITEM_DEFAULTS: Final = {"protocol": "TCP"}
UNOWNED: Final = frozenset(
    {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "selfLink",
    }
)
"""Fields of `metadata` that belong to nobody."""


def build_fields(obj: Mapping[str, Any]) -> Tree:
    """All fields of an object that somebody can own."""
    tree: Tree = {}
    for key, value in obj.items():
        if key in {"apiVersion", "kind"}:
            continue
        is_meta = key == "metadata"
        owned = {name: inner for name, inner in value.items() if name not in UNOWNED} if is_meta else value
        tree[f"f:{key}"] = _fields_of(key, owned)
    return {key: value for key, value in tree.items() if value or key != "f:metadata"}


def _fields_of(name: str, value: Any) -> Tree:
    if isinstance(value, Mapping) and name not in WHOLE:
        return {f"f:{key}": _fields_of(key, inner) for key, inner in value.items()}
    if isinstance(value, list) and value and name in KEYS:
        return {_get_item_key(name, item): _fields_of("", item) for item in value}
    return {}


def _get_item_key(name: str, item: Mapping[str, Any]) -> str:
    keys = next((keys for keys in KEYS[name] if keys[0] in item), KEYS[name][0])
    named = {key: item.get(key, ITEM_DEFAULTS.get(key)) for key in keys}
    return "k:" + json.dumps(named, sort_keys=True, separators=(",", ":"))


def union(one: Tree, other: Tree) -> Tree:
    """The fields of both."""
    if not other:
        return one
    return {**one, **{key: union(one.get(key, {}), below) for key, below in other.items()}}


def subtract(one: Tree, other: Tree) -> Tree:
    """The leaves of `one` that `other` has not."""
    left: Tree = {}
    for key, below in one.items():
        if key not in other:
            left[key] = below
        elif below and other[key] and (rest := subtract(below, other[key])):
            left[key] = rest
    return left


def build_changed(old: Any, new: Any, name: str = "") -> Tree:
    """The fields of `new` that `old` has not, or has otherwise."""
    if old == new:
        return {}
    if isinstance(old, Mapping) and isinstance(new, Mapping) and name not in WHOLE:
        return {
            f"f:{key}": build_changed(old[key], inner, key) if key in old else _fields_of(key, inner)
            for key, inner in new.items()
            if key not in old or old[key] != inner
        }
    if isinstance(old, list) and isinstance(new, list) and name in KEYS and old and new:
        before = {_get_item_key(name, item): item for item in old}
        after = {_get_item_key(name, item): item for item in new}
        return {
            key: build_changed(before[key], item) if key in before else _fields_of("", item)
            for key, item in after.items()
            if before.get(key) != item
        }
    return _fields_of(name, new)


def merge_applied(live: Any, applied: Any, name: str = "") -> Any:
    """The live value with everything that is applied."""
    if isinstance(live, Mapping) and isinstance(applied, Mapping) and name not in WHOLE:
        return {
            **live,
            **{
                key: merge_applied(live[key], inner, key) if key in live else inner
                for key, inner in applied.items()
            },
        }
    if isinstance(live, list) and isinstance(applied, list) and name in KEYS:
        before = {_get_item_key(name, item): item for item in live}
        after = {_get_item_key(name, item): item for item in applied}
        merged = [merge_applied(before[key], item) if key in before else item for key, item in after.items()]
        return [*(item for key, item in before.items() if key not in after), *merged]
    return applied


def remove_fields(live: Any, tree: Tree, name: str = "") -> Any:
    """The live value without these fields."""
    if isinstance(live, list):
        kept = []
        for item in live:
            key = _get_item_key(name, item)
            if key not in tree:
                kept.append(item)
            elif tree[key] and (rest := remove_fields(item, tree[key])):
                kept.append(rest)
        return kept
    removed: dict[str, Any] = {}
    for key, value in live.items():
        below = tree.get(f"f:{key}")
        if below is None:
            removed[key] = value
        elif below and (rest := remove_fields(value, below, key)):
            removed[key] = rest
    return removed


def merge_patch(live: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(live) if isinstance(live, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


# --- managedFields --------------------------------------------------------------------------------------------


def find_entry(entries: Iterable[Mapping[str, Any]], manager: str, operation: str) -> Tree:
    """What a manager owns by one kind of operation."""
    for entry in entries:
        if entry["manager"] == manager and entry["operation"] == operation and not entry.get("subresource"):
            return dict(entry["fieldsV1"])
    return {}


def list_entries(
    entries: Iterable[Mapping[str, Any]], manager: str, operation: str, owned: Tree, taken: Tree
) -> list[dict[str, Any]]:
    """The entries after a write: `owned` is the writer's, `taken` is no longer anybody else's."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        mine = (
            entry["manager"] == manager and entry["operation"] == operation and not entry.get("subresource")
        )
        left = {} if mine else subtract(dict(entry["fieldsV1"]), taken)
        if left:
            found.append({**entry, "fieldsV1": left})
    if owned:
        found.append(
            {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": owned}
        )
    return found
