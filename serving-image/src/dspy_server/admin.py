"""`POST /admin/reload`, for a server without the operator: look at the table, or at the artifact served alone, now.

There is no such endpoint unless a token file is mounted; the token travels in the `Authorization` header only.
"""

import asyncio
import hmac
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dspy_server import logs, readiness
from dspy_server.answers import build_json
from dspy_server.contract import ProblemCode
from dspy_server.errors import SettingsError
from dspy_server.problems import ProblemError
from dspy_server.routes import TableError
from dspy_server.server import Exchange, Server
from dspy_server.tokens import MIN_SECRET_BYTES

_SCHEME: Final = "bearer"


async def reload(server: Server, request: Request, _exchange: Exchange) -> Response:
    """Read again what to serve; loading goes on in the background, as `/ready` shows.

    Raises:
        ProblemError: 404 without a token file, 401 with another token, 409 if there is nothing that can be taken.
    """
    token = find_token(server.admin_token)
    if token is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, ProblemCode.NOT_FOUND, HTTPStatus.NOT_FOUND.phrase)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != _SCHEME or not hmac.compare_digest(_digest(token), _digest(given.strip().encode())):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, ProblemCode.ADMIN_TOKEN, "Not the admin token")
    try:
        await _read_again(server)
    except (SettingsError, TableError) as exc:
        detail = {**readiness.get_detail(server.keeper), "error": str(exc)}
        raise ProblemError(HTTPStatus.CONFLICT, ProblemCode.TABLE, "It cannot be taken", **detail) from exc
    logs.get_logger().info("reloaded", generation=server.keeper.seen_generation)
    return build_json(readiness.get_detail(server.keeper))


def find_token(path: Path) -> bytes | None:
    """The token in the mounted file; None if there is no file, or none that protects anything (16 bytes)."""
    try:
        token = path.read_bytes().strip()
    except OSError:
        return None
    if len(token) >= MIN_SECRET_BYTES:
        return token
    logs.get_logger().error("admin_token_too_short", bytes=len(token))
    return None


async def _read_again(server: Server) -> None:
    if server.build_table is None:
        server.keeper.reload()
        return
    table = await asyncio.to_thread(server.build_table, server.keeper.seen_generation + 1)
    server.keeper.take(table)


def _digest(token: bytes) -> bytes:
    """Of one length, so that the comparison does not tell the token's."""
    return hmac.digest(b"admin-token", token, "sha256")
