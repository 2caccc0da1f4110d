"""`application/problem+json`: how every failure looks to a client, with a stable `code` and no text of anybody's.

Raised by `app.py` as `ProblemError`, rendered by `build_problem`.
"""

import math
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

from dspy_server.contract import ErrorClass, ProblemCode
from dspy_server.errors import FAILURES, ServerError

MEDIA_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = "x-request-id"
_RETRY_SECONDS: Final = 1


class ProblemError(ServerError):
    """A request that cannot be answered, and what its client is told."""

    def __init__(
        self,
        status: HTTPStatus,
        code: ProblemCode,
        title: str,
        *,
        retry_after: float | None = None,
        **members: Any,
    ) -> None:
        super().__init__(title)
        self.status = status
        self.code = code
        self.title = title
        self.retry_after = retry_after
        self.members = members


def build_program_problem(error_class: ErrorClass, *, retry_after: float | None = None) -> ProblemError:
    """The problem of a program that failed."""
    failure = FAILURES[error_class]
    if failure.status is HTTPStatus.SERVICE_UNAVAILABLE and retry_after is None:
        retry_after = _RETRY_SECONDS
    return ProblemError(failure.status, failure.code, failure.title, retry_after=retry_after)


def build_body(problem: ProblemError, request_id: str) -> dict[str, Any]:
    """What a client reads of a problem."""
    return {
        "type": f"urn:dspy-server:problem:{problem.code}",
        "title": problem.title,
        "status": int(problem.status),
        "code": str(problem.code),
        "request_id": request_id,
        **problem.members,
    }


def build_response(problem: ProblemError, request_id: str) -> Response:
    """The answer that a problem becomes."""
    headers = {REQUEST_ID_HEADER: request_id}
    if problem.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after)))
    if problem.status is HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(build_body(problem, request_id)), int(problem.status), headers, MEDIA_TYPE)
