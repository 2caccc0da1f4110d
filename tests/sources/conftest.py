"""Real servers of artifacts on loopback: HTTPS with faults, an OCI registry and an object store behind the same CA."""

import asyncio
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cluster.builds import tool
from tests.cluster.pki import Pki
from tests.servers import get_free_port
from tests.sources.site import Handler, Site, SiteServer

from dspy_server.fetch import Fetcher


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """An authority that only these tests trust, and a certificate for this machine."""
    pki = Pki(tmp_path_factory.mktemp("pki") / "certificates")
    pki.ensure_authority()
    pki.ensure_certificate("server", "/CN=artifacts", ("IP:127.0.0.1", "DNS:localhost"))
    return pki


@pytest.fixture(scope="session")
def server_tls(pki: Pki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate("server"), pki.key("server"))
    return context


@pytest.fixture
def trusted(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user does for a CA of his own: `SSL_CERT_FILE`."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))


@pytest.fixture
def site(server_tls: ssl.SSLContext) -> Iterator[Site]:
    site = Site()
    server = SiteServer(("127.0.0.1", 0), Handler)
    server.site, site.port = site, server.server_port
    server.socket = server_tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetcher(trusted: None, tmp_path: Path) -> Fetcher:
    """What a pod has, but loopback is allowed: the one thing that these tests cannot do without."""
    return Fetcher(tmp_path / "pull", allow=lambda _: True, seconds=10)


@contextmanager
def running(*command: str | Path, address: str, log: Path, **environment: str) -> Iterator[None]:
    """A server process, once `host:port` accepts connections."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    try:
        deadline = time.monotonic() + 60
        while not _accepts(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _accepts(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of a real registry without TLS: where people push to in these tests."""
    folder, address = tmp_path_factory.mktemp("registry"), f"127.0.0.1:{get_free_port()}"
    serve = (tool("crane"), "registry", "serve", "--address", address, "--disk", folder)
    with running(*serve, address=address, log=folder.with_suffix(".log")):
        yield address


REFUSAL = (
    b'HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm="registry"\r\n'
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


@dataclass
class Doorman:
    """TLS in front of a plain server; `admits` is asked with a request's `Authorization`, empty when there is none."""

    port: int
    admits: Callable[[str], bool] = lambda _: True


def find_authorization(head: str) -> str:
    """The value of that header of a request, or nothing."""
    headers = (line.partition(":") for line in head.splitlines())
    return next((value.strip() for name, _, value in headers if name.lower() == "authorization"), "")


@asynccontextmanager
async def guard(address: str, tls: ssl.SSLContext) -> AsyncIterator[Doorman]:
    """A doorman for the server at `host:port`; connections end with each answer."""
    host, _, port = address.partition(":")
    doorman, passing = Doorman(0), set[asyncio.Task[None]]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not doorman.admits(find_authorization(head.decode())):
            writer.write(REFUSAL)
            await writer.drain()
            return
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        async with closing(inner_writer):
            inner_writer.write(head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            while chunk := await inner_reader.read(65536):
                writer.write(chunk)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        passing.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with closing(writer):
                await pass_on(reader, writer)
        passing.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    doorman.port = server.sockets[0].getsockname()[1]
    async with server:
        yield doorman
    for task in passing:
        task.cancel()
    await asyncio.gather(*passing)


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection in the end, whatever happens; the garbage collector would complain of one left open."""
    try:
        yield
    finally:
        writer.close()
        try:
            async with asyncio.timeout(1):
                await writer.wait_closed()
        except (OSError, TimeoutError):  # a client that is gone never says goodbye
            writer.transport.abort()
