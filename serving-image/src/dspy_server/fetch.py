"""URI -> bytes: https, OCI registries, S3, Google Cloud Storage, a user's own mount. Digests are checked by the caller.

Async, so that a newer table cancels it; nothing blocks the loop. 16 MiB and 30 s, whatever the source.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx
import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import GCSStore, S3Store

from dspy_server import network, pull, registry
from dspy_server.artifact import MAX_BYTES
from dspy_server.errors import ForbiddenSourceError, SourceError
from dspy_server.program import read_artifact
from dspy_server.uris import Scheme, Uri, UriError, parse_uri

FETCH_SECONDS: Final = 30.0
CHUNK_BYTES: Final = 1 << 20
_CREDENTIALS: Final = ("credential error", "reading pem file", "rsa key", "token request")
"""What obstore's errors say of Google's credentials, in lower case; their class says nothing."""


@dataclass(frozen=True)
class Fetcher:
    """Fetches artifacts.

    Attributes:
        secret: the folder where the pull secret is mounted; it need not exist.
        allow: which addresses https and registries may have. Tests of local servers hand in another one.
        seconds: for one whole fetch.
    """

    secret: Path
    allow: network.IsAllowed = network.is_allowed
    seconds: float = FETCH_SECONDS

    async def fetch(self, text: str) -> bytes:
        """The bytes that a URI names.

        Raises:
            ForbiddenSourceError: a place where artifacts may not come from.
            SourceError: they cannot be fetched now, or are larger than 16 MiB.
            DigestError: a registry sends other bytes than it promised.
        """
        try:
            uri = parse_uri(text)
        except UriError as exc:
            raise ForbiddenSourceError(str(exc)) from exc
        try:
            async with asyncio.timeout(self.seconds):
                return await self._fetch(uri)
        except TimeoutError as exc:
            raise SourceError(f"{uri}: not fetched within {self.seconds:g} s") from exc

    async def _fetch(self, uri: Uri) -> bytes:
        match uri.scheme:
            case Scheme.FILE:
                return await asyncio.to_thread(read_artifact, Path(uri.path))
            case Scheme.S3 | Scheme.GS:
                return await self._fetch_object(uri)
            case Scheme.HTTPS | Scheme.OCI:
                login = await asyncio.to_thread(pull.find_login, self.secret, uri.host)
                async with await asyncio.to_thread(network.build_client, self.allow) as client:
                    if uri.scheme is Scheme.OCI:
                        return await registry.fetch_program(client, uri, login)
                    return await _fetch_page(client, uri, login)

    async def _fetch_object(self, uri: Uri) -> bytes:
        """Credentials and endpoint are those of the pod: its environment, its service account, the pull secret."""
        try:
            store = await asyncio.to_thread(_build_store, uri, self.secret, self.seconds)
            result = await obstore.get_async(store, uri.path)
            data = bytearray()
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise SourceError(f"{uri}: larger than {MAX_BYTES} bytes")
            return bytes(data)
        except FileNotFoundError as exc:
            raise SourceError(f"{uri}: not found") from exc
        except (BaseError, OSError, ValueError) as exc:
            raise SourceError(f"{uri}: {_describe_failure(exc)}") from exc


def _build_store(uri: Uri, secret: Path, seconds: float) -> Any:
    limit = timedelta(seconds=seconds)
    options: dict[str, Any] = {
        "config": pull.get_store_options(secret, uri.scheme),
        "client_options": {"timeout": limit, "connect_timeout": timedelta(seconds=network.CONNECT_SECONDS)},
        "retry_config": {"max_retries": 0, "retry_timeout": limit},
    }
    return S3Store(uri.host, **options) if uri.scheme is Scheme.S3 else GCSStore(uri.host, **options)


def _describe_failure(error: Exception) -> str:
    """What a person can act upon; the whole message may hold a signed URL and what the store answered."""
    text = str(error)
    if "InvalidCertificate" in text:
        return "the store's certificate is not trusted (SSL_CERT_FILE names the authorities)"
    if "source: BadScheme" in text:
        return "the store's address is not https"
    if isinstance(error, GenericError) and any(part in text.lower() for part in _CREDENTIALS):
        return "no usable credentials, in the pull secret or of the pod"
    return "the store cannot be reached" if "kind: Connect," in text else type(error).__name__


async def _fetch_page(client: httpx.AsyncClient, uri: Uri, login: pull.Login | None) -> bytes:
    headers = {} if login is None else {network.AUTHORIZATION: login.header}
    url = httpx.URL(f"https://{uri.host}{uri.path}" + (f"?{uri.query}" if uri.query else ""))
    answer = await network.get(client, url, limit=MAX_BYTES, headers=headers)
    if answer.status != HTTPStatus.OK:
        raise SourceError(f"{uri}: the server answers {answer.status}")
    return answer.body
