"""`oci://` against a real registry, pushed to with `oras` as its users do."""

import hashlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import oras.client
import pytest
from tests.sources.conftest import Doorman, guard
from tests.sources.site import LOGIN, PROGRAM

from dspy_server.errors import DigestError, SourceError
from dspy_server.fetch import Fetcher
from dspy_server.registry import MEDIA_TYPE

pytestmark = pytest.mark.tools


@pytest.fixture
async def registry(plain_registry: str, server_tls: ssl.SSLContext) -> AsyncIterator[Doorman]:
    async with guard(plain_registry, server_tls) as doorman:
        yield doorman


def push(plain_registry: str, folder: Path, repository: str, *media_types: str) -> str:
    """Push an image with a program for each media type; the digest of its manifest."""
    files = []
    for number, media_type in enumerate(media_types):
        path = folder / f"program{number}.json"
        path.write_bytes(PROGRAM)
        files.append(f"{path}:{media_type}")
    response = oras.client.OrasClient(insecure=True).push(
        target=f"{plain_registry}/{repository}:1", files=files, disable_path_validation=True
    )
    return f"sha256:{hashlib.sha256(response.request.body).hexdigest()}"


async def test_a_pushed_program_is_fetched(
    plain_registry: str, registry: Doorman, fetcher: Fetcher, tmp_path: Path
) -> None:
    digest = push(plain_registry, tmp_path, "team/triage", MEDIA_TYPE)
    assert await fetcher.fetch(f"oci://127.0.0.1:{registry.port}/team/triage@{digest}") == PROGRAM
    assert await fetcher.fetch(f"oci://127.0.0.1:{registry.port}/team/triage:1@{digest}") == PROGRAM


async def test_a_private_registry_gets_the_pull_secret(
    plain_registry: str, registry: Doorman, fetcher: Fetcher, tmp_path: Path
) -> None:
    registry.admits = LOGIN.__eq__
    uri = f"oci://127.0.0.1:{registry.port}/private@{push(plain_registry, tmp_path, 'private', MEDIA_TYPE)}"
    with pytest.raises(SourceError, match="give a pull secret"):
        await fetcher.fetch(uri)
    fetcher.secret.mkdir()
    config = {"auths": {f"https://127.0.0.1:{registry.port}/v1/": {"auth": LOGIN.removeprefix("Basic ")}}}
    (fetcher.secret / ".dockerconfigjson").write_text(json.dumps(config))
    assert await fetcher.fetch(uri) == PROGRAM


@pytest.mark.parametrize("media_types", [(MEDIA_TYPE, MEDIA_TYPE), ("application/json",)])
async def test_an_image_with_no_program_or_two_is_refused(
    media_types: tuple[str, ...], plain_registry: str, registry: Doorman, fetcher: Fetcher, tmp_path: Path
) -> None:
    digest = push(plain_registry, tmp_path, f"wrong{len(media_types)}", *media_types)
    with pytest.raises(SourceError, match="media type"):
        await fetcher.fetch(f"oci://127.0.0.1:{registry.port}/wrong{len(media_types)}@{digest}")


async def test_a_digest_that_the_registry_does_not_have_is_an_error(
    registry: Doorman, fetcher: Fetcher
) -> None:
    with pytest.raises(SourceError, match="answers 404"):
        await fetcher.fetch(f"oci://127.0.0.1:{registry.port}/team/triage@sha256:{'0' * 64}")


async def test_a_layer_that_was_changed_in_the_registry_is_refused(
    plain_registry: str, registry: Doorman, fetcher: Fetcher, tmp_path: Path
) -> None:
    uri = f"oci://127.0.0.1:{registry.port}/changed@{push(plain_registry, tmp_path, 'changed', MEDIA_TYPE)}"
    real = httpx.AsyncHTTPTransport.handle_async_request

    async def change(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        response = await real(self, request)
        if "/blobs/" in request.url.path:
            body = PROGRAM.replace(b"x", b"y", 1)
            return httpx.Response(200, stream=httpx.ByteStream(body))
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", change)
        with pytest.raises(DigestError, match="the layer from the registry"):
            await fetcher.fetch(uri)
