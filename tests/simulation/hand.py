"""Whoever else writes to the API server: users, the kubelet, Kubernetes' own controllers. They never fail."""

from collections.abc import Mapping
from typing import Any

from tests.simulation.answers import Answer
from tests.simulation.store import Object, Store

from dspy_operator.kube.client import MERGE_PATCH, Call
from dspy_operator.kube.resources import Resource


class Hand:
    """Writes as `who`."""

    def __init__(self, store: Store, who: str) -> None:
        self._store = store
        self._who = who
        self._query = {"fieldManager": who}

    def create(self, resource: Resource, obj: Object) -> Answer:
        body = {**obj, "apiVersion": resource.api_version, "kind": resource.kind}
        path = resource.path(obj["metadata"]["namespace"])
        return self._store.handle(Call("create", resource, path, self._query, body), self._who)

    def merge(
        self, resource: Resource, obj: Object, patch: Mapping[str, Any], subresource: str | None = None
    ) -> Answer:
        path = resource.path(obj["metadata"]["namespace"], obj["metadata"]["name"], subresource)
        call = Call("patch", resource, path, self._query, dict(patch), content=MERGE_PATCH)
        return self._store.handle(call, self._who)

    def delete(self, resource: Resource, obj: Object, propagation: str = "Background") -> Answer:
        path = resource.path(obj["metadata"]["namespace"], obj["metadata"]["name"])
        call = Call("delete", resource, path, body={"propagationPolicy": propagation})
        return self._store.handle(call, self._who)
