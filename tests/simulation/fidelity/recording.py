"""Pairs of request and answer: recorded, made comparable, stored as JSON, asked again of the simulated API server.

Names of objects stay; uids, versions and times become numbers in the order of their appearance, so that two servers
that behave alike give the same text. What a server fills in is left out: compared is what somebody has asked for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.simulation.shapes import SERVED

from dspy_operator.kube.answers import parse_object
from dspy_operator.kube.client import JSON, Call, Client
from dspy_operator.kube.resources import PODMONITORS, Resource

Object = dict[str, Any]
Pair = dict[str, Any]

STORED: Final = Path(__file__).parent / "pairs.json"
RESOURCES: Final = {resource.plural: resource for resource in (*SERVED, PODMONITORS)}
TIMES: Final = frozenset({"creationTimestamp", "deletionTimestamp"})
NUMBERED: Final = {"uid": "uid", "resourceVersion": "version"}
UNSPOKEN: Final = frozenset({"managedFields", "deletionGracePeriodSeconds", "selfLink"})


class RecordingClient(Client):
    """A real client that keeps what was asked and answered."""

    pairs: list[tuple[Call, int, Object]]

    async def _send(self, call: Call) -> tuple[Any, bytes]:
        response, data = await super()._send(call)
        self.pairs.append((call, response.status, parse_object(data) or {}))
        return response, data


class Numbers:
    """Uids and versions as numbers, and back."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def number(self, kind: str, value: str) -> str:
        """`uid-3` for the third uid; what was never answered stays as it is."""
        return self._known.setdefault(
            f"{kind} {value}", f"{kind}-{sum(1 for k in self._known if k.startswith(kind)) + 1}"
        )

    def find(self, kind: str, value: str) -> str:
        """The number of what was answered before."""
        return self._known.get(f"{kind} {value}", value)

    def restore(self, numbered: str) -> str:
        """What has this number on the server that is asked now."""
        return next(
            (key.split(" ", 1)[1] for key, value in self._known.items() if value == numbered), numbered
        )


class Comparing:
    """Makes pairs comparable; knows which fields of each object somebody has asked for."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self._asked: dict[str, Object] = {}

    def build_pair(self, call: Call, status: int, body: Object) -> Pair:
        """One pair as it is stored."""
        request: Pair = {"verb": call.verb, "resource": call.resource.plural, "path": call.path}
        if call.query:
            request["query"] = dict(call.query)
        if call.accept != JSON:
            request["accept"] = call.accept
        if call.content != JSON:
            request["content"] = call.content
        if call.body is not None:
            request["body"] = _walk(call.body, self.numbers.find)
            self._note(call)
        return {"request": request, "status": status, "answer": self.build_answer(call, body)}

    def _note(self, call: Call) -> None:
        key = self._get_key(
            call.resource, (call.body or {}).get("metadata", {}).get("name") or _get_name(call)
        )
        self._asked[key] = _merge_shape(self._asked.get(key, {}), call.body)

    def _get_key(self, resource: Resource, name: str) -> str:
        return f"{resource.plural}/{name}"

    def build_answer(self, call: Call, body: Object) -> Object:
        """What of the answer is compared."""
        if body.get("kind") == "Status" or ("items" not in body and "metadata" not in body):
            return _build_status(body)
        if "items" in body:
            return {"items": [self._build_object(call.resource, item) for item in body["items"]]}
        return self._build_object(call.resource, body)

    def _build_object(self, resource: Resource, obj: Object) -> Object:
        asked = self._asked.get(self._get_key(resource, obj["metadata"]["name"]), {})
        meta = {key: value for key, value in obj["metadata"].items() if key not in UNSPOKEN}
        built = {
            key: _project(value, asked[key])
            for key, value in obj.items()
            if key in asked and key != "metadata"
        }
        parts = {
            key: value
            for key, value in built.items()
            if value not in ({}, [], None) and key not in {"apiVersion", "kind"}
        }
        walked: Object = _walk({"metadata": _without_empty(meta), **parts}, self.numbers.number)
        return walked


def _get_name(call: Call) -> str:
    parts = call.path.split("/")
    return parts[parts.index(call.resource.plural) + 1] if parts[-1] != call.resource.plural else ""


def _build_status(body: Object) -> Object:
    if body.get("status") == "Success":
        return {"status": "Success"}
    causes = ((body.get("details") or {}).get("causes")) or ()
    fields = sorted({str(cause.get("field")) for cause in causes})
    return {"reason": body.get("reason"), **({"fields": fields} if fields else {})}


def _walk(value: Any, number: Any) -> Any:
    """The value with uids, versions and times made comparable, in a fixed order."""
    if isinstance(value, Mapping):
        walked: Object = {}
        for key, inner in sorted(value.items()):
            if key in NUMBERED and isinstance(inner, str):
                walked[key] = number(NUMBERED[key], inner)
            elif key in TIMES and inner:
                walked[key] = "time"
            elif key != "time":
                walked[key] = _walk(inner, number)
        return walked
    if isinstance(value, list):
        return [_walk(inner, number) for inner in value]
    return value


def _merge_shape(shape: Any, value: Any) -> Any:
    """Which fields were ever asked for; all items of a list have one shape."""
    if isinstance(value, Mapping):
        known = shape if isinstance(shape, dict) else {}
        return {**known, **{key: _merge_shape(known.get(key, {}), inner) for key, inner in value.items()}}
    if isinstance(value, list):
        merged = shape if isinstance(shape, dict) else {}
        for inner in value:
            merged = _merge_shape(merged, inner)
        return merged
    return shape


def _project(value: Any, shape: Any) -> Any:
    if isinstance(value, Mapping) and shape:
        projected = {key: _project(inner, shape[key]) for key, inner in value.items() if key in shape}
        return {key: inner for key, inner in projected.items() if inner not in ({}, [], None)}
    if isinstance(value, list):
        return [_project(inner, shape) for inner in value]
    return value


def _without_empty(value: Mapping[str, Any]) -> Object:
    return {key: inner for key, inner in value.items() if inner not in ({}, [], None)}


def build_call(request: Pair, numbers: Numbers) -> Call:
    """The request of a stored pair, for the server that is asked now."""

    def restore(_: str, value: str) -> str:
        return numbers.restore(value)

    body = _walk(request["body"], restore) if "body" in request else None
    resource = RESOURCES[request["resource"]]
    return Call(
        request["verb"],
        resource,
        request["path"],
        request.get("query", {}),
        body,
        accept=request.get("accept", JSON),
        content=request.get("content", JSON),
    )


def read_pairs() -> list[Pair]:
    """The stored pairs."""
    pairs: list[Pair] = json.loads(STORED.read_text())
    return pairs


def render_pairs(pairs: list[Pair]) -> str:
    """One pair a line, so that a difference is seen at once."""
    return (
        "[\n"
        + ",\n".join(json.dumps(pair, sort_keys=True, separators=(",", ":")) for pair in pairs)
        + "\n]\n"
    )
