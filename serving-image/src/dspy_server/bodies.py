"""Request bodies: counted while they stream in, within ten seconds, and parsed as JSON."""

import asyncio
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request

from dspy_server.contract import ProblemCode
from dspy_server.problems import ProblemError

BODY_SECONDS: Final = 10.0
INPUTS: Final = "inputs"


async def read_json(request: Request, *, max_bytes: int) -> Any:
    """The JSON value of a request's body.

    Raises:
        ProblemError: 413 too large, 408 too slow, 400 no JSON.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            data = await _read(request, max_bytes)
    except TimeoutError as exc:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT, ProblemCode.SLOW_BODY, "The body did not arrive in time"
        ) from exc
    except ClientDisconnect as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, ProblemCode.BODY, "The body ended early") from exc
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, ProblemCode.BODY, "The body is not JSON") from exc


async def _read(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ProblemCode.SIZE, f"The body exceeds {max_bytes} bytes"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def get_inputs(body: Any) -> dict[str, Any]:
    """The inputs in a body: `{"inputs": {…}}`, or the fields themselves.

    Raises:
        ProblemError: 400, the body is no object.
    """
    if not isinstance(body, dict):
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, ProblemCode.BODY, 'The body is not an object like {"inputs": {…}}'
        )
    if set(body) == {INPUTS} and isinstance(body[INPUTS], dict):
        inner: dict[str, Any] = body[INPUTS]
        return inner
    return body
