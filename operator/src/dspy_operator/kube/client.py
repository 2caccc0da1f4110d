"""One client of the API server: literal paths, plain dicts, short timeouts, errors that say what to do.

Called by `reconcile/`, `traffic/`, `handlers/` and `cli/`; writes are bound to what was read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from dspy_operator.api.names import FIELD_MANAGER
from dspy_operator.errors import LostAnswer, Permanent, Transient
from dspy_operator.kube.answers import error_of, parse_date, parse_object, parse_retry_after
from dspy_operator.kube.login import load_configuration
from dspy_operator.kube.ownership import find_joined_ownership
from dspy_operator.kube.resources import Resource

Object = dict[str, Any]

PAGE: Final = 500
CLOSING: Final = 0.05
"""Seconds: aiohttp closes a connection in the loop's next turns, after it has said that it is closed."""
CONNECTIONS: Final = 8
"""At a time: TLS buffers cost a third of a MiB each, and one for each request of a burst would stay open."""
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

MANAGER: Final = {"fieldManager": FIELD_MANAGER}
METHODS: Final = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


@dataclass(frozen=True)
class Call:
    """One request: the verb as RBAC names it, and what goes over the wire."""

    verb: str
    resource: Resource
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    accept: str = JSON
    content: str = JSON

    @property
    def method(self) -> str:
        """The HTTP method."""
        return METHODS[self.verb]

    @property
    def mutating(self) -> bool:
        """Whether it may change something."""
        return self.method != "GET"

    @property
    def what(self) -> str:
        """The request in words: `patch deployments/triage-0a1b2c3d`."""
        return f"{self.verb} {self.path[self.path.rindex(self.resource.plural) :]}"

    def lost(self, text: str) -> Transient:
        """The error when the request may have been heard and its answer is not to be had."""
        kind = LostAnswer if self.mutating else Transient
        return kind(f"{self.what}: {text}")


class Client:
    """The API server as the operator sees it.

    Attributes:
        server_time: epoch seconds of the newest `Date` header seen, 0.0 before the first answer.

    Every method raises `Transient` (read failed, 429, server unreachable), `LostAnswer` (a write that may
    still land), `Conflict` (someone else wrote first) or `Permanent` (refused; the text names verb and
    resource).
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        timeout: float = 10.0,
        on_request: Callable[[str, str, str], None] | None = None,
        login: Callable[[], Awaitable[Configuration]] | None = None,
    ) -> None:
        """Wrap a configuration.

        Args:
            configuration: where the API server is and who we are.
            timeout: seconds for a whole call, body included.
            on_request: told of every request: verb, plural, status code (`timeout` or `error` without one).
            login: finds the configuration anew after a 401.
        """
        self.server_time = 0.0
        configuration.connection_pool_maxsize = CONNECTIONS
        self._api = ApiClient(configuration)
        self._api.user_agent = FIELD_MANAGER
        self._timeout = timeout
        self._on_request = on_request
        self._login = login

    @classmethod
    async def from_environment(
        cls,
        context: str | None = None,
        *,
        kubeconfig: str | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109  of each later call, not of this one
        on_request: Callable[[str, str, str], None] | None = None,
    ) -> Self:
        """A client for the pod's service account or a kubeconfig (`login.py`)."""

        async def login() -> Configuration:
            return await load_configuration(context, kubeconfig)

        return cls(await login(), timeout=timeout, on_request=on_request, login=login)

    async def close(self) -> None:
        """Close the connections, and let the event loop drop their sockets before it ends."""
        await self._api.close()
        await asyncio.sleep(CLOSING)

    # --- reading -----------------------------------------------------------------------------------------

    async def find(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False
    ) -> Object | None:
        """The live object, or None where there is none."""
        accept = METADATA if metadata_only else JSON
        found = await self._call(Call("get", resource, resource.path(namespace, name), accept=accept))
        return None if found is None else _slim(resource, found)

    async def list_(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        labels: str = "",
        metadata_only: bool = False,
    ) -> list[Object]:
        """The live objects of a namespace, or of all; `labels` is a label selector."""
        accept = METADATA_LIST if metadata_only else JSON
        query = {"limit": str(PAGE)} | ({"labelSelector": labels} if labels else {})
        items: list[Object] = []
        while True:
            page = await self._get(Call("list", resource, resource.path(namespace), query, accept=accept))
            items += [_slim(resource, item) for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            query |= {"continue": token}

    async def has_kind(self, resource: Resource, namespace: str) -> bool:
        """Whether the API server knows the kind: those of others are there when somebody has installed them."""
        try:
            await self._get(
                Call("list", resource, resource.path(namespace), {"limit": "1"}, accept=METADATA_LIST)
            )
        except Permanent as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    # --- writing -----------------------------------------------------------------------------------------

    async def create(self, resource: Resource, obj: Object) -> Object:
        """Create what is not there yet; `Conflict` if it is."""
        path = resource.path(obj["metadata"]["namespace"])
        return await self._get(Call("create", resource, path, MANAGER, _typed(resource, obj)))

    async def apply(self, resource: Resource, obj: Object, *, uid: str, resource_version: str) -> Object:
        """Server-side apply over the object that was read: exactly it, and unchanged since.

        Args:
            resource: the kind.
            obj: what we want of it; fields that we had set and that it has not are removed.
            uid: of the object that was read.
            resource_version: of the object that was read.
        """
        applied = await self._apply(resource, obj, uid, resource_version)
        joined = find_joined_ownership(applied)
        if joined is None:
            return applied
        version = applied["metadata"]["resourceVersion"]
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        patch = {"metadata": {"managedFields": joined}}
        owned = await self.merge(resource, namespace, name, patch, resource_version=version)
        return await self._apply(resource, obj, uid, owned["metadata"]["resourceVersion"])

    async def _apply(self, resource: Resource, obj: Object, uid: str, version: str) -> Object:
        metadata = obj["metadata"] | {"uid": uid, "resourceVersion": version}
        path = resource.path(metadata["namespace"], metadata["name"])
        body = _typed(resource, obj, metadata=metadata)
        query = MANAGER | {"force": "true"}
        return await self._get(Call("patch", resource, path, query, body, content=APPLY_PATCH))

    async def patch_status(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        status_patch: Mapping[str, Any],
        *,
        uid: str,
        resource_version: str,
    ) -> Object:
        """Merge `status_patch` into the status that was read (null deletes a field)."""
        metadata = {"uid": uid, "resourceVersion": resource_version}
        body = {"metadata": metadata, "status": dict(status_patch)}
        path = resource.path(namespace, name, "status")
        return await self._get(Call("patch", resource, path, MANAGER, body, content=MERGE_PATCH))

    async def annotate(
        self, resource: Resource, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> Object:
        """Set annotations (None removes), bound to nothing; `Conflict` if the object is gone."""
        return await self.merge(resource, namespace, name, {"metadata": {"annotations": dict(annotations)}})

    async def merge(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, resource_version: str = ""
    ) -> Object:
        """Merge patch of the object itself; bound to `resource_version` where one is given."""
        version = {"resourceVersion": resource_version} if resource_version else {}
        body = patch | {"metadata": (patch.get("metadata") or {}) | version}
        path = resource.path(namespace, name)
        return await self._get(Call("patch", resource, path, MANAGER, body, content=MERGE_PATCH))

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None = None,
    ) -> None:
        """Delete exactly that object, its dependants in the background; already gone is fine."""
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {"preconditions": preconditions, "propagationPolicy": "Background"}
        await self._call(Call("delete", resource, resource.path(namespace, name), body=body))

    # --- one request -------------------------------------------------------------------------------------

    async def _get(self, call: Call) -> Object:
        """`_call` for verbs whose 404 is an error."""
        found = await self._call(call)
        assert found is not None  # noqa: S101  only get and delete give None
        return found

    async def _call(self, call: Call) -> Object | None:
        """One request and what its answer means; None is the 404 of a get or a delete."""
        response, data = await self._send(call)
        date = response.headers.get("Date")
        self.server_time = max(self.server_time, parse_date(date) or 0.0)
        parsed = parse_object(data)
        if response.status < HTTPStatus.BAD_REQUEST:
            if parsed is None:
                raise call.lost("the answer is no JSON object")
            return parsed
        if response.status == HTTPStatus.NOT_FOUND and call.verb in {"get", "delete"}:
            return None
        if response.status == HTTPStatus.UNAUTHORIZED:
            await self._log_in_again()
        retry_after = parse_retry_after(response.headers.get("Retry-After"), date)
        raise error_of(response.status, parsed, call.what, mutating=call.mutating, retry_after=retry_after)

    async def _send(self, call: Call) -> tuple[Any, bytes]:
        """The answer and its whole body; what never reached the server is `Transient` even for a write."""
        code = "error"
        try:
            response = await self._api.call_api(
                *await self._api.param_serialize(
                    method=call.method,
                    resource_path=call.path,
                    query_params=list(call.query.items()),
                    header_params={"Accept": call.accept, "Content-Type": call.content},
                    body=call.body,
                    auth_settings=["BearerToken"],
                ),
                _request_timeout=self._timeout,
            )
            data = await response.read()
            code = str(response.status)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Transient(f"{call.what}: cannot reach the API server ({type(error).__name__})") from error
        except TimeoutError as error:
            code = "timeout"
            raise call.lost(f"no answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise call.lost(f"the connection broke ({type(error).__name__})") from error
        finally:
            if self._on_request is not None:
                self._on_request(call.verb, call.resource.plural, code)
        return response, data

    async def _log_in_again(self) -> None:
        """Take the newest token; the failed call itself is tried again by the next pass."""
        if self._login is None:
            return
        async with asyncio.timeout(self._timeout):
            fresh = await self._login()
        self._api.configuration.api_key = fresh.api_key
        self._api.configuration.refresh_api_key_hook = fresh.refresh_api_key_hook


def _slim(resource: Resource, obj: Object) -> Object:
    """The object without `managedFields`: half of its size, and nobody looks at them in what was read."""
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    return _typed(resource, obj, metadata=metadata)


def _typed(resource: Resource, obj: Object, **parts: Object) -> Object:
    """The object with the kind it is asked as (items of a list come without), and with some parts changed."""
    return {**obj, **parts, "apiVersion": resource.api_version, "kind": resource.kind}
