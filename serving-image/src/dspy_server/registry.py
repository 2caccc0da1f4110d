"""An artifact in an OCI registry, by the digest of its manifest: manifest -> the one layer with a program -> bytes.

Plain requests of the distribution API: the `oras` package follows redirects to any host and bounds neither size nor
time, and what remains of a pull by digest is two requests.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx

from dspy_server import network
from dspy_server.artifact import MAX_BYTES
from dspy_server.errors import DigestError, SourceError
from dspy_server.pull import Login
from dspy_server.uris import Uri

MEDIA_TYPE: Final = "application/vnd.dspy.program.v1+json"
MANIFEST_TYPES: Final = "application/vnd.oci.image.manifest.v1+json"
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_TOKEN_BYTES: Final = 1 << 20
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE: Final = re.compile(r'(realm|service|scope)="([^"]*)"')
_HOSTS: Final = {"docker.io": "registry-1.docker.io"}


@dataclass
class _Registry:
    """One repository, and what it wants to see as authorization."""

    client: httpx.AsyncClient
    uri: Uri
    login: Login | None
    authorization: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, *, limit: int, accept: str = "*/*") -> bytes:
        """The body of `/v2/<repository>/<path>`; blobs may be redirected to the registry's storage."""
        host = _HOSTS.get(self.uri.host, self.uri.host)
        url = httpx.URL(f"https://{host}/v2/{self.uri.path}/{path}")
        for is_last in (False, True):
            answer = await network.get(
                self.client,
                url,
                limit=limit,
                headers={"accept": accept, **self.authorization},
                other_hosts=True,
            )
            if answer.status != HTTPStatus.UNAUTHORIZED or is_last:
                break
            await self._authorize(answer.headers.get("www-authenticate", ""))
        if answer.status != HTTPStatus.OK:
            raise SourceError(f"{self.uri}: the registry answers {answer.status}")
        return answer.body

    async def _authorize(self, challenge: str) -> None:
        """Answer a registry's challenge: the login itself, or a token that the login (or nobody) gets."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self.login is not None:
            self.authorization = {network.AUTHORIZATION: self.login.header}
            return
        values = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in values:
            raise SourceError(f"{self.uri}: the registry wants a login: give a pull secret")
        self.authorization = {network.AUTHORIZATION: f"Bearer {await self._get_token(values)}"}

    async def _get_token(self, challenge: dict[str, str]) -> str:
        try:
            realm = httpx.URL(challenge.pop("realm"))
        except httpx.InvalidURL as exc:
            raise SourceError(f"{self.uri}: the registry names no place for tokens") from exc
        headers = {} if self.login is None else {network.AUTHORIZATION: self.login.header}
        url = realm.copy_merge_params(challenge)
        answer = await network.get(self.client, url, limit=MAX_TOKEN_BYTES, headers=headers)
        if answer.status != HTTPStatus.OK:
            raise SourceError(f"{self.uri}: no token from {realm.host}: it answers {answer.status}")
        try:
            body = json.loads(answer.body)
            token = body.get("token") or body.get("access_token")
        except (ValueError, AttributeError) as exc:
            raise SourceError(f"{self.uri}: {realm.host} answers no JSON") from exc
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SourceError(f"{self.uri}: no token from {realm.host}")
        return token


async def fetch_program(client: httpx.AsyncClient, uri: Uri, login: Login | None) -> bytes:
    """The bytes of the program in the image that `uri` names; manifest and layer have the digests that they should.

    Raises:
        SourceError: it cannot be fetched, or is no image with exactly one program.
        DigestError: manifest or layer are not what their digest says.
    """
    registry = _Registry(client, uri, login)
    manifest = await registry.get(f"manifests/{uri.digest}", limit=MAX_MANIFEST_BYTES, accept=MANIFEST_TYPES)
    _verify("manifest", manifest, uri.digest)
    digest, size = _find_layer(uri, manifest)
    data = await registry.get(f"blobs/{digest}", limit=size)
    _verify("layer", data, digest)
    return data


def _verify(what: str, data: bytes, digest: str) -> None:
    actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if actual != digest:
        raise DigestError(f"the {what} from the registry has {actual}, expected {digest}")


def _find_layer(uri: Uri, manifest: bytes) -> tuple[str, int]:
    """Digest and size of the program's layer."""
    try:
        layers: list[dict[str, Any]] = json.loads(manifest)["layers"]
        found = [layer for layer in layers if layer.get("mediaType") == MEDIA_TYPE]
        digest, size = str(found[0]["digest"]), int(found[0]["size"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as exc:
        raise SourceError(f"{uri}: no image with a layer of media type {MEDIA_TYPE}") from exc
    if len(found) > 1 or not _DIGEST.fullmatch(digest):
        raise SourceError(f"{uri}: not exactly one layer of media type {MEDIA_TYPE} with a sha256")
    if not 0 <= size <= MAX_BYTES:
        raise SourceError(f"{uri}: larger than {MAX_BYTES} bytes")
    return digest, size
