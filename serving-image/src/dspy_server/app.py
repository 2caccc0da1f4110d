"""The endpoints of both ports: each request gets an id, each failure its problem, each answer its count.

`parts.py` builds the `Server` that they share; `ask.py` is the walk of a question.
"""

import functools
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dspy_server import admin, ask, contract, logs, oip, openapi, problems, readiness, stream
from dspy_server.answers import build_json
from dspy_server.clients import CLIENT_CLOSED, ClientGoneError
from dspy_server.contract import ProblemCode
from dspy_server.journal import Journal
from dspy_server.metrics import CONTENT_TYPE, INFERENCE_PATHS, OPENMETRICS, OPENMETRICS_CONTENT_TYPE, Metrics
from dspy_server.problems import ProblemError
from dspy_server.scoring import Vote
from dspy_server.server import Exchange, Server, get_problem, read_body
from dspy_server.stream import EventStream
from dspy_server.tokens import TokenError
from dspy_server.tracing import TRACEPARENT

_OTHER: Final = "other"
_ASKING: Final = frozenset(INFERENCE_PATHS)
"""Paths whose requests have a log line and a trace."""
TRACE_ID_HEADER: Final = "x-trace-id"

Handler = Callable[[Request], Awaitable[Response]]
_Endpoint = Callable[[Server, Request, Exchange], Awaitable[Response]]


def build_app(server: Server) -> Starlette:
    """The application of port 8080."""
    endpoints: list[tuple[str, str, _Endpoint]] = [
        (contract.PATH_ASK, "POST", ask.answer),
        (contract.PATH_STREAM, "POST", stream.answer),
        (contract.PATH_FEEDBACK, "POST", _feedback),
        (contract.PATH_HEALTH, "GET", _healthz),
        (contract.PATH_READY, "GET", _ready),
        (contract.PATH_VERSION, "GET", _version),
        (contract.PATH_V2_LIVE, "GET", oip.live),
        (contract.PATH_V2_READY, "GET", oip.ready),
        (contract.PATH_V2_MODEL, "GET", oip.describe),
        (contract.PATH_V2_INFER, "POST", oip.infer),
        (contract.PATH_OPENAPI, "GET", openapi.Document().answer),
        (contract.PATH_RELOAD, "POST", admin.reload),
    ]
    return Starlette(
        routes=[
            Route(path, _wrap(server, path, handle), methods=[method]) for path, method, handle in endpoints
        ],
        middleware=_list_middleware(server),
        exception_handlers={HTTPException: _build_not_found(server)},
    )


def _list_middleware(server: Server) -> list[Middleware]:
    """CORS, if any origin may ask: exact origins, and no credentials.

    The server knows no cookies, so a browser has none to send.
    """
    origins = server.config.serving.cors.allow_origins
    if not origins:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[problems.REQUEST_ID_HEADER, TRACE_ID_HEADER, "retry-after"],
    )
    return [cors]


def build_metrics_app(metrics: Metrics, *, has_exemplars: bool = False) -> Starlette:
    """The application of port 9090; with exemplars, a scraper that takes OpenMetrics gets them."""

    async def scrape(request: Request) -> Response:
        if has_exemplars and OPENMETRICS in request.headers.get("accept", ""):
            return Response(metrics.render_openmetrics(), headers={"content-type": OPENMETRICS_CONTENT_TYPE})
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return Starlette(routes=[Route(contract.PATH_METRICS, scrape, methods=["GET"])])


def _wrap(server: Server, path: str, handler: _Endpoint) -> Handler:
    """Give each request an id, each failure its problem, each answer its count."""

    async def handle(request: Request) -> Response:
        exchange = _open_exchange(server, request, path)
        try:
            response = await handler(server, request, exchange)
        except ClientGoneError:
            response = Response(status_code=CLIENT_CLOSED)
        except Exception as exc:  # noqa: BLE001 - the last net: a client gets a problem, never a stack
            response = problems.build_response(get_problem(server, exchange, exc), exchange.request_id)
        if exchange.trace_id is not None:
            response.headers[TRACE_ID_HEADER] = exchange.trace_id
        if server.draining:
            response.headers["connection"] = "close"
        conclude = functools.partial(_conclude, server, exchange, path)
        if isinstance(response, EventStream):
            response.conclude = conclude
        else:
            conclude(response.status_code)
        return response

    return handle


def _conclude(server: Server, exchange: Exchange, path: str, status: int) -> None:
    """Count a request that is over."""
    key = (server.metrics.program, exchange.revision if exchange.judged else "", path)
    server.metrics.http.labels(*key, str(status)).inc()
    if path in _ASKING:
        with_text = server.config.serving.logs.text == "Redacted"
        logs.get_logger().info("asked", route=path, status=status, **exchange.describe(with_text=with_text))
    if exchange.journal.trace is not None:
        exchange.journal.trace.finish(status, exchange.error or exchange.code or "")


def _open_exchange(server: Server, request: Request, path: str) -> Exchange:
    """A new request: its id, and its trace if it asks a program and is sampled."""
    trace = None
    if server.tracer is not None and path in _ASKING:
        trace = server.tracer.start(request.method, path, request.headers.get(TRACEPARENT))
    exchange = Exchange(request_id=uuid.uuid4().hex, journal=Journal(trace))
    exchange.journal.describe(request_id=exchange.request_id)
    return exchange


async def _feedback(server: Server, request: Request, exchange: Exchange) -> Response:
    if server.feedback is None:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            ProblemCode.FEEDBACK_KEY_MISSING,
            "No key signs feedback: configure scoring.feedbackKeySecret",
        )
    body = await read_body(server, request)
    token, score = (body.get("feedback_token"), body.get("score")) if isinstance(body, dict) else (None, None)
    if not isinstance(token, str) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemCode.INPUTS,
            "Feedback is a feedback_token and a score from 0 to 1",
        )
    try:
        vote = await server.feedback.vote(token, float(score))
    except TokenError as exc:
        raise ProblemError(HTTPStatus.FORBIDDEN, ProblemCode.FEEDBACK_TOKEN, f"Refused: {exc}") from exc
    if vote is Vote.USED:
        raise ProblemError(
            HTTPStatus.CONFLICT, ProblemCode.FEEDBACK_USED, "This answer has been scored already"
        )
    return build_json({"counted": vote is Vote.COUNTED, "request_id": exchange.request_id})


async def _healthz(_server: Server, _request: Request, _exchange: Exchange) -> Response:
    return build_json({"status": "ok"})


async def _ready(server: Server, _request: Request, _exchange: Exchange) -> Response:
    detail = readiness.get_detail(server.keeper)
    if server.keeper.current is None or server.draining:
        title = "Shutting down" if server.draining else "No program is loaded yet"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.NOT_READY, title, **detail)
    return build_json(detail)


async def _version(server: Server, _request: Request, _exchange: Exchange) -> Response:
    snapshot = server.keeper.current
    routes = (
        [
            {
                "revision": route.revision,
                "track": route.track,
                "weight": route.weight,
                "sha256": route.sha256,
                "loaded": route.revision in snapshot.programs,
            }
            for route in snapshot.routes
        ]
        if snapshot
        else []
    )
    return build_json(
        {**server.version, "generation": snapshot.generation if snapshot else 0, "routes": routes}
    )


def _build_not_found(server: Server) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_: Request, exc: Exception) -> Response:
        status = HTTPStatus(exc.status_code) if isinstance(exc, HTTPException) else HTTPStatus.NOT_FOUND
        code = ProblemCode.METHOD if status is HTTPStatus.METHOD_NOT_ALLOWED else ProblemCode.NOT_FOUND
        server.metrics.http.labels(server.metrics.program, "", _OTHER, str(int(status))).inc()
        return problems.build_response(ProblemError(status, code, status.phrase), uuid.uuid4().hex)

    return handle
