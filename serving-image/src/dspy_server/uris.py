"""Where an artifact may lie outside of the mounted slots: the text of a URI -> `Uri`, or why it is none.

Pure: `routes.py` checks a table with it, `fetch.py` follows it.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from dspy_server.errors import ServerError

MAX_CHARS: Final = 1024
_PRINTABLE: Final = re.compile(r"[!-\[\]-~]+")  # ASCII without spaces and without the backslash
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_WORD: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"/(?P<repository>{_WORD}(?:/{_WORD})*)(?::[\w.-]+)?@(?P<digest>sha256:[0-9a-f]{{64}})"
)


class UriError(ServerError):
    """The text is no URI of an artifact; the message says why and never holds the text."""


class Scheme(StrEnum):
    """How an artifact is fetched."""

    HTTPS = "https"
    OCI = "oci"
    S3 = "s3"
    GS = "gs"
    FILE = "file"


@dataclass(frozen=True)
class Uri:
    """The parsed parts.

    Attributes:
        host: `host[:port]` of https and oci, the bucket of s3 and gs, empty for file.
        path: path of https, repository of oci, key of s3 and gs, absolute path of file.
        query: of https only; it may hold a signature, so it is in no message.
        digest: `sha256:…` of the manifest, of oci only.
    """

    scheme: Scheme
    host: str
    path: str
    query: str = ""
    digest: str = ""

    def __str__(self) -> str:
        """For people: without the query."""
        at = f"@{self.digest}" if self.digest else ""
        return f"{self.scheme}://{self.host}/{self.path.lstrip('/')}{at}"


def is_uri(text: str) -> bool:
    """Whether a route's path is a URI rather than a mounted file."""
    return "://" in text


def parse_uri(text: str) -> Uri:
    """The URI in a text.

    Raises:
        UriError: with what is wrong.
    """
    if len(text) > MAX_CHARS or not _PRINTABLE.fullmatch(text):
        raise UriError(f"not a URI of at most {MAX_CHARS} printable ASCII characters")
    try:
        parts = urlsplit(text)
        scheme = Scheme(parts.scheme)
    except ValueError as exc:
        raise UriError(f"not one of {', '.join(f'{scheme}://' for scheme in Scheme)}") from exc
    if "@" in parts.netloc:
        raise UriError("a URI holds no user or password: give a pull secret")
    if parts.fragment or (parts.query and scheme is not Scheme.HTTPS):
        raise UriError("no fragment, and a query in https only")
    match scheme:
        case Scheme.HTTPS:
            return Uri(scheme, _get_host(parts), parts.path, query=parts.query)
        case Scheme.OCI:
            return _parse_image(parts)
        case Scheme.S3 | Scheme.GS:
            return _parse_object(scheme, parts)
        case Scheme.FILE:
            return _parse_file(parts)


def _get_host(parts: SplitResult) -> str:
    if not _HOST.fullmatch(parts.netloc):
        raise UriError("no host")
    return parts.netloc.lower()


def _parse_image(parts: SplitResult) -> Uri:
    image = _IMAGE.fullmatch(parts.path)
    if image is None:
        raise UriError("not oci://registry/repository@sha256:<64 hex>")
    return Uri(Scheme.OCI, _get_host(parts), image["repository"], digest=image["digest"])


def _parse_object(scheme: Scheme, parts: SplitResult) -> Uri:
    key = parts.path.removeprefix("/")
    if not _BUCKET.fullmatch(parts.netloc) or not key or {"", ".", ".."} & set(key.split("/")):
        raise UriError(f"not {scheme}://bucket/key")
    return Uri(scheme, parts.netloc, key)


def _parse_file(parts: SplitResult) -> Uri:
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
        raise UriError("not file:///absolute/path")
    return Uri(Scheme.FILE, "", path)
