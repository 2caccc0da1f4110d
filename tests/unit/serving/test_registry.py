import hashlib
import json
from typing import Any

import httpx
import pytest

from dspy_server import registry
from dspy_server.errors import DigestError, LoadError, SourceError
from dspy_server.pull import Login
from dspy_server.uris import parse_uri

PROGRAM = b'{"a": "program"}'
LOGIN = Login("robot", "hunter2")


def get_digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def build_manifest(**changes: Any) -> bytes:
    layer = {"mediaType": registry.MEDIA_TYPE, "digest": get_digest(PROGRAM), "size": len(PROGRAM), **changes}
    return json.dumps({"schemaVersion": 2, "layers": [layer]}).encode()


def build_answer(body: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(body))


class Registry:
    """Answers from its pages; with a challenge, only to whom has the token."""

    def __init__(
        self, manifest: bytes, *, blob: bytes = PROGRAM, challenge: str = "", token: Any = "t0k3n"
    ) -> None:
        self.uri = parse_uri(f"oci://registry.example/team/p@{get_digest(manifest)}")
        self.manifest, self.blob, self.challenge, self.token = manifest, blob, challenge, token
        self.logins: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        login = request.headers.get("authorization", "")
        if request.url.host == "tokens.example":
            self.logins.append(login)
            assert dict(request.url.params) == {"service": "r", "scope": "repository:team/p:pull"}
            return build_answer(json.dumps({"token": self.token}).encode())
        if self.challenge and login != f"Bearer {self.token}":
            return httpx.Response(401, headers={"www-authenticate": self.challenge})
        is_manifest = request.url.path == f"/v2/team/p/manifests/{self.uri.digest}"
        return build_answer(self.manifest if is_manifest else self.blob)

    async def fetch(self, login: Login | None = None) -> bytes:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as client:
            return await registry.fetch_program(client, self.uri, login)


BEARER = 'Bearer realm="https://tokens.example/t",service="r",scope="repository:team/p:pull"'


@pytest.mark.parametrize(("login", "shown"), [(None, ""), (LOGIN, LOGIN.header)])
async def test_a_token_is_got_with_the_login_or_without(login: Login | None, shown: str) -> None:
    server = Registry(build_manifest(), challenge=BEARER)
    assert await server.fetch(login) == PROGRAM
    assert server.logins == [shown]


@pytest.mark.parametrize("token", [None, 3, "a\r\nhost: x", "é"])
async def test_what_is_no_token_is_not_sent(token: Any) -> None:
    with pytest.raises(SourceError, match=r"no token from tokens\.example"):
        await Registry(build_manifest(), challenge=BEARER, token=token).fetch()


@pytest.mark.parametrize("challenge", ["Negotiate", "Bearer", 'Basic realm="x"', 'Bearer realm="https://["'])
async def test_a_challenge_that_cannot_be_met_is_an_error(challenge: str) -> None:
    with pytest.raises(SourceError):
        await Registry(build_manifest(), challenge=challenge).fetch()


async def test_another_manifest_than_the_digest_says_is_refused() -> None:
    server = Registry(build_manifest())
    server.manifest = build_manifest(annotations={})
    with pytest.raises(DigestError, match="manifest"):
        await server.fetch()


async def test_another_layer_than_the_manifest_says_is_refused() -> None:
    with pytest.raises(DigestError, match="layer"):
        await Registry(build_manifest(), blob=PROGRAM[:-1] + b"!").fetch()


@pytest.mark.parametrize(
    "manifest",
    [
        b"[]",
        b"{",
        b'{"layers": 3}',
        b'{"layers": ["x"]}',
        b"[" * 100_000,
        build_manifest(size=17 << 20),
        build_manifest(size=-1),
        build_manifest(size="x"),
        build_manifest(size=3),
        build_manifest(digest="sha256:../../secrets"),
        build_manifest(mediaType="application/json"),
    ],
)
async def test_a_manifest_that_names_no_program_is_refused(manifest: bytes) -> None:
    with pytest.raises(LoadError):
        await Registry(manifest).fetch()
