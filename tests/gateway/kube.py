"""The API server as a pod sees it, with the standard library: one request, and kinds that are kept up to date."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]
Key = tuple[str, str]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST = "kubernetes.default.svc"
CALL_SECONDS, WATCH_SECONDS = 10, 240
RETRY_SECONDS = 0.5


class RefusedError(Exception):
    """The API server did not do it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"HTTP {code}: {text}")
        self.code = code


def open_request(
    method: str, path: str, body: Object | None = None, timeout: float = CALL_SECONDS
) -> http.client.HTTPResponse:
    """One request over a connection of its own; RefusedError when the answer is no success."""
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    connection = http.client.HTTPSConnection(HOST, timeout=timeout, context=context)
    token = (ACCOUNT / "token").read_text()  # the kubelet renews it
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    response = connection.getresponse()
    if response.status >= 300:
        raise RefusedError(response.status, response.read(400).decode(errors="replace"))
    return response


def call(method: str, path: str, body: Object | None = None) -> Object:
    """One request; the parsed answer."""
    with open_request(method, path, body) as response:
        parsed: Object = json.load(response)
        return parsed


class Mirror(threading.Thread):
    """All objects of one kind, listed once and then watched; `changed` is set whenever something is new."""

    def __init__(self, path: str, changed: threading.Event) -> None:
        super().__init__(daemon=True, name=path)
        self.path, self.changed = path, changed
        self.lock = threading.Lock()
        self.objects: dict[Key, Object] = {}
        self.listed = threading.Event()

    def get(self) -> dict[Key, Object]:
        """The objects as they are now, by namespace and name."""
        with self.lock:
            return dict(self.objects)

    def run(self) -> None:
        """List and watch for ever; what goes wrong is said and tried again."""
        while True:
            try:
                self.watch(self.list())
            except (OSError, http.client.HTTPException, RefusedError, ValueError) as error:
                print(f"{self.path}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                time.sleep(RETRY_SECONDS)

    def list(self) -> str:
        """Take the whole list; the version from which to watch."""
        answer = call("GET", self.path)
        with self.lock:
            self.objects = {get_key(item): item for item in answer["items"]}
        self.listed.set()
        self.changed.set()
        return str(answer["metadata"]["resourceVersion"])

    def watch(self, version: str) -> None:
        """Follow what happens, from one watch to the next, until the API server no longer knows the version."""
        while True:
            query = (
                f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
            )
            with open_request("GET", f"{self.path}?{query}", timeout=WATCH_SECONDS + CALL_SECONDS) as stream:
                for event in read_events(stream):
                    if event["type"] == "ERROR":
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    self.take(event["type"], event["object"])

    def take(self, kind: str, item: Object) -> None:
        """One event of a watch."""
        with self.lock:
            if kind == "DELETED":
                self.objects.pop(get_key(item), None)
            elif kind != "BOOKMARK":
                self.objects[get_key(item)] = item
        if kind != "BOOKMARK":
            self.changed.set()


def read_events(stream: http.client.HTTPResponse) -> Iterator[Object]:
    """The lines of a watch."""
    while line := stream.readline():
        yield json.loads(line)


def get_key(obj: Object) -> Key:
    """Namespace and name."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
