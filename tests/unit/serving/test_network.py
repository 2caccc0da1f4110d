import asyncio
from ipaddress import ip_address
from typing import Any

import httpx
import pytest

from dspy_server import network
from dspy_server.errors import ForbiddenSourceError, SourceError


@pytest.mark.parametrize(
    "text", ["93.184.216.34", "10.1.2.3", "192.168.0.9", "2606:2800:220:1::1", "fd12::1"]
)
def test_public_and_private_addresses_are_allowed(text: str) -> None:
    assert network.is_allowed(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "0.1.2.3", "::"),
        *("169.254.169.254", "fe80::1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("2002:7f00:1::", "::127.0.0.1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255"),
    ],
)
def test_this_machine_its_link_and_its_clouds_services_are_not(text: str) -> None:
    assert not network.is_allowed(ip_address(text))


class Names:
    """A resolver that gives each question the next answer, and what was connected to."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    async def getaddrinfo(self, _host: str, port: int, **_: Any) -> list[Any]:
        if not self.answers:
            raise OSError
        return [(0, 0, 0, "", (address, port)) for address in self.answers.pop(0)]

    async def send(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host == "10.0.0.1":
            raise httpx.ConnectError("down")
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))


async def fetch(names: Names, monkeypatch: pytest.MonkeyPatch, url: str = "https://h.example/a") -> bytes:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", names.send)
    async with network.build_client(network.is_allowed) as client:
        return (await network.get(client, httpx.URL(url), limit=100)).body


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(["10.0.0.2"], ["127.0.0.1"])
    assert await fetch(names, monkeypatch) == b"ok"
    [request] = names.requests
    assert (request.url.host, request.headers["host"]) == ("10.0.0.2", "h.example")
    assert request.extensions["sni_hostname"] == "h.example"
    assert names.answers == [["127.0.0.1"]]


async def test_one_forbidden_address_among_others_forbids_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["93.184.216.34", "169.254.169.254"])
    with pytest.raises(ForbiddenSourceError, match=r"169\.254\.169\.254"):
        await fetch(names, monkeypatch)
    assert names.requests == []


async def test_the_next_address_is_tried_when_one_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["10.0.0.1", "10.0.0.2"])
    assert await fetch(names, monkeypatch) == b"ok"
    assert [request.url.host for request in names.requests] == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("answers", [[], [["10.0.0.1"]]])
async def test_an_unknown_name_and_a_dead_host_are_errors(
    answers: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"h\.example"):
        await fetch(Names(*answers), monkeypatch)


async def test_plain_http_is_never_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["10.0.0.2"])
    with pytest.raises(ForbiddenSourceError, match="only https"):
        await fetch(names, monkeypatch, "http://h.example/a")
    assert names.requests == []


async def test_another_host_gets_no_authorization() -> None:
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization", "")))
        if request.url.host == "registry":
            return httpx.Response(307, headers={"location": "https://storage/blob"})
        return httpx.Response(200, stream=httpx.ByteStream(b"ok"))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        found = await network.get(
            client,
            httpx.URL("https://registry/blob"),
            limit=10,
            headers={"authorization": "Bearer x"},
            other_hosts=True,
        )
    assert found.body == b"ok"
    assert seen == [("registry", "Bearer x"), ("storage", "")]


async def test_even_with_other_hosts_a_redirect_stays_on_https() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "http://registry/blob"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ForbiddenSourceError, match="http://registry"):
            await network.get(client, httpx.URL("https://registry/blob"), limit=10, other_hosts=True)
