"""HTTPS to hosts that a user's URI names: which addresses may be reached, and answers of bounded size.

A name is resolved once, every address is checked, and the connection goes to a checked one: what the name means a
moment later (DNS rebinding) does not matter.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import httpx

from dspy_server.errors import ForbiddenSourceError, SourceError

MAX_REDIRECTS: Final = 3
AUTHORIZATION: Final = "authorization"
CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
USER_AGENT: Final = "dspy-server"
HTTPS_PORT: Final = 443

Address = IPv4Address | IPv6Address
IsAllowed = Callable[[Address], bool]

_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset(map(ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254")))
"""Services of clouds for their own machines (Alibaba, Azure, AWS) that are not link-local."""
_THIS_NETWORK: Final = ip_network("0.0.0.0/8")


def is_allowed(address: Address) -> bool:
    """Whether an artifact may come from there: public or private, never this machine, its link or its cloud's own."""
    plain = _unwrap(address)
    return not (
        plain.is_loopback
        or plain.is_link_local
        or plain.is_multicast
        or plain.is_unspecified
        or plain.is_reserved
        or plain in _METADATA
        or plain in _THIS_NETWORK
    )


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class GuardedTransport(httpx.AsyncHTTPTransport):
    """HTTPS only, to checked addresses only, without a proxy, each request on a connection of its own."""

    def __init__(self, allow: IsAllowed) -> None:
        super().__init__(trust_env=True, limits=httpx.Limits(max_keepalive_connections=0))
        self._allow = allow

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Connect to an address of the host; the certificate must still be the host's."""
        if request.url.scheme != "https":
            raise ForbiddenSourceError(f"{request.url.host}: {request.url.scheme} is not allowed, only https")
        host = request.url.raw_host.decode("ascii")
        addresses = await self._resolve(host, request.url.port or HTTPS_PORT)
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=str(address)),
                headers=request.headers,  # with the host's name
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await super().handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise SourceError(f"{host}: no address")

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise SourceError(f"{host}: cannot be resolved") from exc
        addresses = list(dict.fromkeys(ip_address(entry[4][0]) for entry in found))
        for address in addresses:
            if not self._allow(address):
                raise ForbiddenSourceError(
                    f"{host}: {address} is an address that artifacts may not come from"
                )
        return addresses


def build_client(allow: IsAllowed) -> httpx.AsyncClient:
    """A client for one fetch; blocks for a moment, because it reads the certificates of the authorities."""
    return httpx.AsyncClient(
        transport=GuardedTransport(allow),
        headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        trust_env=False,
    )


@dataclass(frozen=True)
class Answer:
    """The last answer of a walk along redirects; `body` is empty unless `status` is 200."""

    status: int
    headers: httpx.Headers
    body: bytes


async def get(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    limit: int,
    headers: Mapping[str, str] | None = None,
    other_hosts: bool = False,
) -> Answer:
    """GET with redirects: to the same host, or with `other_hosts` to any, without the authorization then.

    Raises:
        ForbiddenSourceError: a redirect or an address that is not allowed.
        SourceError: it cannot be reached, or its answer is larger than `limit` bytes.
    """
    sent = dict(headers or {})
    for _ in range(MAX_REDIRECTS + 1):
        try:
            async with client.stream("GET", url, headers=sent) as response:
                if not response.has_redirect_location:
                    is_ok = response.status_code == HTTPStatus.OK
                    body = await _read(response, limit) if is_ok else b""
                    return Answer(response.status_code, response.headers, body)
                target = url.join(response.headers["location"])
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise SourceError(f"{url.host}: {type(exc).__name__}") from exc
        if _get_origin(target) != _get_origin(url):
            if target.scheme != "https" or not other_hosts:
                raise ForbiddenSourceError(f"{url.host}: redirects to {target.scheme}://{target.host}")
            sent.pop(AUTHORIZATION, None)
        url = target
    raise SourceError(f"{url.host}: more than {MAX_REDIRECTS} redirects")


def _get_origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return (url.scheme, url.host, url.port)


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The body as it was sent: what is compressed on the way has another digest and is not unpacked."""
    host = response.request.url.host
    too_large = SourceError(f"{host}: larger than {limit} bytes")
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)
