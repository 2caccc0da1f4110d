"""`https://` against a real server with a certificate of a local authority, and every fault that a fetch can meet."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sources.site import PROGRAM, Site

from dspy_server.errors import ForbiddenSourceError, SourceError
from dspy_server.fetch import Fetcher

pytestmark = pytest.mark.tools


async def test_a_program_is_fetched(site: Site, fetcher: Fetcher) -> None:
    assert await fetcher.fetch(f"{site.url}/program.json?version=3") == PROGRAM
    assert site.seen == [("/program.json?version=3", "")]


async def test_a_redirect_on_the_same_host_is_followed(site: Site, fetcher: Fetcher) -> None:
    assert await fetcher.fetch(f"{site.url}/moved") == PROGRAM


@pytest.mark.parametrize("path", ["/away", "/plain"])
async def test_a_redirect_to_another_host_or_scheme_is_refused(
    path: str, site: Site, fetcher: Fetcher
) -> None:
    with pytest.raises(ForbiddenSourceError, match="redirects to"):
        await fetcher.fetch(site.url + path)
    assert [seen for seen, _ in site.seen] == [path]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loop", "more than 3 redirects"),
        ("/large", "larger than 16777216 bytes"),
        ("/endless", "larger than 16777216 bytes"),
        ("/cut", "RemoteProtocolError|ReadError"),
        ("/nothing", "the server answers 404"),
        ("/private", "the server answers 401"),
    ],
)
async def test_a_fault_is_an_error_that_says_what_it_is(
    path: str, message: str, site: Site, fetcher: Fetcher
) -> None:
    with pytest.raises(SourceError, match=message):
        await fetcher.fetch(f"{site.url}{path}?signature=hidden")


async def test_a_slow_server_is_left_at_the_deadline(site: Site, fetcher: Fetcher) -> None:
    with pytest.raises(SourceError, match="not fetched within"):
        await replace(fetcher, seconds=0.5).fetch(f"{site.url}/slow")


async def test_a_fetch_that_nobody_wants_any_more_ends_at_once(site: Site, fetcher: Fetcher) -> None:
    task = asyncio.create_task(fetcher.fetch(f"{site.url}/slow"))
    async with asyncio.timeout(5):
        while not site.seen:  # noqa: ASYNC110 - the server is a thread that sets no event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_this_machine_is_no_source_of_artifacts(site: Site, fetcher: Fetcher) -> None:
    strict = Fetcher(fetcher.secret)
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"):
        with pytest.raises(ForbiddenSourceError, match="may not come from"):
            await strict.fetch(f"https://{host}:{site.port}/program.json")
    assert site.seen == []


async def test_an_unknown_authority_is_refused(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match="ConnectError"):
        await fetcher.fetch(f"{site.url}/program.json")
    assert site.seen == []


async def test_the_certificate_must_be_that_of_the_name(
    site: Site, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def point_here(host: str, port: int, **options: int) -> object:
        return await resolve("127.0.0.1", port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", point_here)
    assert await fetcher.fetch(f"https://localhost:{site.port}/program.json") == PROGRAM
    with pytest.raises(SourceError, match="ConnectError"):
        await fetcher.fetch(f"https://artifacts.example.com:{site.port}/program.json")


async def test_the_pull_secret_is_shown_to_its_host_only(site: Site, fetcher: Fetcher) -> None:
    fetcher.secret.mkdir()
    config = {"auths": {f"127.0.0.1:{site.port}": {"username": "robot", "password": "hunter2"}}}
    (fetcher.secret / ".dockerconfigjson").write_text(json.dumps(config))
    assert await fetcher.fetch(f"{site.url}/private") == PROGRAM
    with pytest.raises(SourceError, match="answers 401"):
        await fetcher.fetch(f"https://localhost:{site.port}/private")
    assert [login != "" for _, login in site.seen] == [True, False]


async def test_a_mounted_file_is_read(fetcher: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "a program.json").write_bytes(PROGRAM)
    assert await fetcher.fetch(f"file://{tmp_path}/a%20program.json") == PROGRAM
    for path in (tmp_path / "missing.json", tmp_path, Path("/dev/zero")):
        with pytest.raises(SourceError):
            await fetcher.fetch(f"file://{path}")
