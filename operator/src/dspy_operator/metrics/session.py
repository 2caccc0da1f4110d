"""One bounded HTTP exchange with Prometheus: POST, no redirect, 16 MiB, a total deadline, no warnings.

Handed to `PrometheusConnect` by `reader.py`, as its own session has none of these bounds and drops warnings.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

MAX_BYTES: Final = 16 * 1024 * 1024
CHUNK: Final = 64 * 1024
OK: Final = 200
ERROR_TYPES: Final = frozenset(
    {"timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found"}
)
"""What Prometheus calls its errors: all of an error's body that is ever repeated."""


class QueryFailed(Exception):  # noqa: N818  what happened; never leaves `metrics/`
    """There is no usable answer; the text is ours and holds nothing of a body."""


class Answer(requests.Response):
    """An answer whose body was read, bounded and parsed already."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        super().__init__()
        self.status_code = OK
        self._payload = payload

    def json(self, **_: Any) -> Any:
        """The parsed body."""
        return self._payload


class BoundedSession(requests.Session):
    """A session that gives an answer within its bounds, or raises `QueryFailed`."""

    def __init__(
        self, *, deadline: float = 5.0, token_file: Path | None = None, allow_infos: bool = False
    ) -> None:
        """Make a session.

        Args:
            deadline: seconds for the whole exchange.
            token_file: a bearer token, read before each query.
            allow_infos: take an answer that comes with infos, such as that a user's counter is not called `_total`:
                they speak of the query's text, while warnings speak of the data.
        """
        super().__init__()
        self.trust_env = False
        self._deadline = deadline
        self._token_file = token_file
        self._allow_infos = allow_infos

    def request(  # type: ignore[override]  # only what PrometheusConnect calls
        self, method: str, url: str, params: Mapping[str, str] | None = None, **kwargs: Any
    ) -> Answer:
        """Send the parameters as a form and read the whole answer."""
        until = time.monotonic() + self._deadline
        try:
            response = super().request(
                method,
                url,
                data=dict(params or {}),
                headers=self._build_headers(),
                verify=kwargs.get("verify", True),
                timeout=self._deadline,
                allow_redirects=False,
                stream=True,
            )
            with response:
                payload = _parse(response.status_code, b"".join(_read(response, until)))
        except (requests.Timeout, ReadTimeoutError) as error:
            raise QueryFailed(f"no answer within {self._deadline:g} s") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise QueryFailed(f"the connection failed ({type(error).__name__})") from error
        if payload.get("warnings") or (payload.get("infos") and not self._allow_infos):
            raise QueryFailed("the answer came with warnings: it may be partial")
        return Answer(payload)

    def _build_headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}


def _read(response: requests.Response, until: float) -> Iterator[bytes]:
    """The decoded body, piece by piece as it comes: neither a trickle nor a bomb outlasts its bound."""
    size = 0
    while piece := response.raw.read1(CHUNK, decode_content=True):
        size += len(piece)
        if size > MAX_BYTES:
            raise QueryFailed(f"the answer is larger than {MAX_BYTES // 1024**2} MiB")
        if time.monotonic() > until:
            raise QueryFailed("the answer did not end in time")
        yield piece


def _parse(status: int, body: bytes) -> Mapping[str, Any]:
    """The answer of a query that went well."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise QueryFailed(f"status {status} and no JSON object")
    if status != OK or payload.get("status") != "success":
        kind = payload.get("errorType")
        raise QueryFailed(f"status {status}" + (f" ({kind})" if kind in ERROR_TYPES else ""))
    if not isinstance(payload.get("data"), dict) or not isinstance(payload["data"].get("result"), list):
        raise QueryFailed("the answer has no result")
    return payload
