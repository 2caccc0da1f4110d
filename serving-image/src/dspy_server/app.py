"""The endpoints, and the walk of one request: body, route, inputs, program, answer; then, off the path, its score.

`lifecycle.py` builds the `Server` that the endpoints share.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dspy_server import answers, bodies, compat, contract, logs, problems, schema
from dspy_server.contract import CacheLabel, Degradation, ErrorClass, ProblemCode, Rejection
from dspy_server.engine import CALL, Call
from dspy_server.limits import Admission, QueueFullError
from dspy_server.metrics import CONTENT_TYPE, REVISION, Metrics
from dspy_server.problems import ProblemError
from dspy_server.scoring import FeedbackBox, Scorer, Vote
from dspy_server.settings import Config
from dspy_server.snapshot import Choice, RouteKeeper, Snapshot
from dspy_server.tokens import TokenError
from dspy_server.users import UserLimitError, UserLimits

CHARS_PER_TOKEN: Final = 3
"""To guess what a request's inputs will cost, before its provider says it; rather too much than too little."""
GRACE_SECONDS: Final = 0.25
"""The program's own timeout, beyond the deadline: a provider that is too late is reported as such first."""
_OTHER: Final = "other"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Server:
    """What the endpoints share.

    Attributes:
        lm: the one `dspy.LM`, whose engine knows the targets.
        adapter: the one adapter.
        workers: threads for programs without `aforward`, one for each request that is admitted.
        version: the static part of `GET /version`.
        draining: set at SIGTERM; `/ready` then says 503 and connections are closed after each answer.
    """

    config: Config
    keeper: RouteKeeper
    metrics: Metrics
    lm: Any
    adapter: Any
    scorer: Scorer
    feedback: FeedbackBox | None
    admission: Admission
    users: UserLimits
    workers: Executor
    version: Mapping[str, Any]
    draining: bool = False


@dataclass
class _Exchange:
    """One request on its way; what it learns is what its metrics and its log line say."""

    request_id: str
    revision: str = ""
    track: str = ""
    judged: bool = True
    error: ErrorClass | None = None


def build_app(server: Server) -> FastAPI:
    """The application of port 8080."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    def add(
        path: str, method: str, handler: Callable[[Server, Request, _Exchange], Awaitable[Response]]
    ) -> None:
        app.add_route(path, _wrap(server, path, handler), methods=[method])

    add(contract.PATH_ASK, "POST", _ask)
    add(contract.PATH_FEEDBACK, "POST", _feedback)
    add(contract.PATH_HEALTH, "GET", _healthz)
    add(contract.PATH_READY, "GET", _ready)
    add(contract.PATH_VERSION, "GET", _version)
    app.add_exception_handler(HTTPException, _build_not_found(server))
    return app


def build_metrics_app(metrics: Metrics) -> FastAPI:
    """The application of port 9090."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    async def scrape(_: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    app.add_route(contract.PATH_METRICS, scrape, methods=["GET"])
    return app


def _wrap(
    server: Server, path: str, handler: Callable[[Server, Request, _Exchange], Awaitable[Response]]
) -> Handler:
    """Give each request an id, each failure its problem, each answer its count."""

    async def handle(request: Request) -> Response:
        exchange = _Exchange(request_id=uuid.uuid4().hex)
        try:
            response = await handler(server, request, exchange)
        except ProblemError as problem:
            response = problems.build_response(problem, exchange.request_id)
        except UserLimitError as exc:
            response = problems.build_response(_refuse_user(server, exchange, exc), exchange.request_id)
        except Exception as exc:  # noqa: BLE001 - the last net: a client gets a problem, never a stack
            logs.get_logger().error("unexpected", error=type(exc).__name__, where=_get_origin(exc))
            response = problems.build_response(
                problems.build_program_problem(ErrorClass.INTERNAL), exchange.request_id
            )
        if server.draining:
            response.headers["connection"] = "close"
        key = (server.metrics.program, exchange.revision if exchange.judged else "", path)
        server.metrics.http.labels(*key, str(response.status_code)).inc()
        return response

    return handle


async def _ask(server: Server, request: Request, exchange: _Exchange) -> Response:
    body = await _read_body(server, request)
    started = time.perf_counter()
    snapshot = server.keeper.current
    if snapshot is None:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.NOT_READY, "No program is loaded yet", retry_after=1
        )
    user = _find_header(request, snapshot.table.user_header)
    payer = server.users.get_user(user)
    server.users.take(payer)
    choice = _choose(server, snapshot, request, user or exchange.request_id)
    exchange.revision, exchange.track = choice.route.revision, choice.route.track
    exchange.judged = choice.judged
    try:
        inputs = choice.program.inputs.parse(bodies.get_inputs(body))
    except schema.InputError as exc:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemCode.INPUTS,
            "The inputs do not fit the program's signature",
            errors=exc.mistakes,
        ) from exc
    call = Call(deadline=asyncio.get_running_loop().time() + server.config.lm.timeout)
    estimate = server.config.lm.primary.max_tokens + len(str(inputs)) // CHARS_PER_TOKEN
    try:
        with server.users.spend(payer, estimate, call.count_tokens):
            prediction = await _answer(server, choice, inputs, exchange, call)
    except ProblemError as problem:
        return _degrade(server, choice, exchange, problem)
    token = _find_token(server, choice, exchange.request_id, user)
    outputs = schema.encode_outputs(prediction)
    response = answers.build_answer(choice, call, outputs, exchange.request_id, token=token)
    seconds = time.perf_counter() - started
    if choice.judged:
        server.metrics.duration.labels(server.metrics.program, exchange.revision, CacheLabel.MISS).observe(
            seconds
        )
        server.scorer.offer(exchange.revision, inputs, prediction)
    return response


def _refuse_user(server: Server, exchange: _Exchange, error: UserLimitError) -> ProblemError:
    revision = exchange.revision if exchange.judged else ""
    server.metrics.rejected.labels(server.metrics.program, revision, error.reason).inc()
    title = (
        "Too many requests of this user" if error.reason is Rejection.USER_RATE else "Today's budget is used"
    )
    code = ProblemCode(str(error.reason))
    return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, code, title, retry_after=error.retry_after)


async def _read_body(server: Server, request: Request) -> Any:
    try:
        return await bodies.read_json(request, max_bytes=server.config.serving.limits.max_body_bytes)
    except ProblemError as problem:
        if problem.code is ProblemCode.SIZE:
            server.metrics.rejected.labels(server.metrics.program, "", Rejection.SIZE).inc()
        raise


def _choose(server: Server, snapshot: Snapshot, request: Request, user: str) -> Choice:
    """The request's route: by the override header if there is one, else by the user's bucket."""
    override = _find_header(request, snapshot.table.override_header)
    if override is not None:
        found = snapshot.find_override(override)
        if found is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, ProblemCode.NO_ROUTE, "No loaded revision of that name")
        return found
    choice = snapshot.choose(user)
    if choice.instead_of:
        server.metrics.route_fallback.labels(server.metrics.program, choice.instead_of).inc()
    return choice


def _degrade(server: Server, choice: Choice, exchange: _Exchange, problem: ProblemError) -> Response:
    """What a client gets when no LM could answer: the configured outputs if there are any, else the problem.

    The outputs are no answer of the program: never scored, in no latency; the failure stays counted by its class.
    """
    if exchange.error not in answers.NO_LM:
        raise problem
    outputs = server.config.serving.degraded.outputs
    kind = Degradation.OUTPUTS if outputs else Degradation.REFUSED
    revision = choice.route.revision if choice.judged else ""
    server.metrics.degraded.labels(server.metrics.program, revision, kind).inc()
    if not outputs:
        raise problem
    return answers.build_degraded(choice, outputs, exchange.request_id)


async def _answer(
    server: Server, choice: Choice, inputs: Mapping[str, Any], exchange: _Exchange, call: Call
) -> Any:
    """The program's prediction; `call` says what it used.

    Raises:
        ProblemError: of the class of the failure, which is counted.
    """
    revision = choice.route.revision if choice.judged else ""
    tokens = (REVISION.set(revision), CALL.set(call))
    inflight = server.metrics.inflight.labels(server.metrics.program, revision)
    inflight.inc()
    try:
        async with (
            asyncio.timeout(server.config.lm.timeout + GRACE_SECONDS),
            server.admission.slot(call.deadline),
        ):
            with compat.overrides(lm=server.lm, adapter=server.adapter):
                return await choice.program.answer(inputs, server.workers)
    except QueueFullError as exc:
        server.metrics.rejected.labels(server.metrics.program, revision, Rejection.QUEUE).inc()
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            ProblemCode.QUEUE,
            "Too many requests at once",
            retry_after=exc.retry_after,
        ) from exc
    except Exception as exc:
        error_class = _classify(exc, call)
        exchange.error = error_class
        server.metrics.errors.labels(server.metrics.program, revision, error_class).inc()
        _log_failure(exchange, exc, error_class)
        raise problems.build_program_problem(error_class, retry_after=call.retry_after) from exc
    finally:
        inflight.dec()
        REVISION.reset(tokens[0])
        CALL.reset(tokens[1])


def _classify(error: Exception, call: Call) -> ErrorClass:
    """The class of a failure; a program that ran out of time while no provider was being waited for is `deadline`."""
    error_class = compat.classify_program_error(error)
    if not isinstance(error, TimeoutError) and error_class is not ErrorClass.TIMEOUT:
        return error_class
    has_waited = call.waiting or call.last_class is ErrorClass.TIMEOUT
    return ErrorClass.TIMEOUT if has_waited else ErrorClass.DEADLINE


def _log_failure(exchange: _Exchange, error: Exception, error_class: ErrorClass) -> None:
    logs.get_logger().warning(
        "ask_failed",
        request_id=exchange.request_id,
        revision=exchange.revision,
        track=exchange.track,
        error_class=error_class,
        error=type(error).__name__,
        status=getattr(error, "status", None),
        where=_get_origin(error),
    )


def _find_token(server: Server, choice: Choice, request_id: str, user: str | None) -> str | None:
    if server.feedback is None or not choice.judged:
        return None
    return server.feedback.issue(choice.route.revision, request_id, user)


async def _feedback(server: Server, request: Request, exchange: _Exchange) -> Response:
    if server.feedback is None:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            ProblemCode.FEEDBACK_KEY_MISSING,
            "No key signs feedback: configure scoring.feedbackKeySecret",
        )
    body = await _read_body(server, request)
    token, score = (body.get("feedback_token"), body.get("score")) if isinstance(body, dict) else (None, None)
    if not isinstance(token, str) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemCode.INPUTS,
            "Feedback is a feedback_token and a score from 0 to 1",
        )
    try:
        vote = server.feedback.vote(token, float(score))
    except TokenError as exc:
        raise ProblemError(HTTPStatus.FORBIDDEN, ProblemCode.FEEDBACK_TOKEN, f"Refused: {exc}") from exc
    if vote is Vote.USED:
        raise ProblemError(
            HTTPStatus.CONFLICT, ProblemCode.FEEDBACK_USED, "This answer has been scored already"
        )
    return _json({"counted": vote is Vote.COUNTED, "request_id": exchange.request_id})


async def _healthz(_server: Server, _request: Request, _exchange: _Exchange) -> Response:
    return _json({"status": "ok"})


async def _ready(server: Server, _request: Request, _exchange: _Exchange) -> Response:
    snapshot = server.keeper.current
    detail: dict[str, Any] = {
        "generation": snapshot.generation if snapshot else 0,
        "seenGeneration": server.keeper.seen_generation,
        "programs": server.keeper.get_states(),
        "reasons": server.keeper.get_reasons(),
        "error": server.keeper.error,
    }
    if snapshot is None or server.draining:
        title = "Shutting down" if server.draining else "No program is loaded yet"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.NOT_READY, title, **detail)
    return _json(detail)


async def _version(server: Server, _request: Request, _exchange: _Exchange) -> Response:
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
    return _json({**server.version, "generation": snapshot.generation if snapshot else 0, "routes": routes})


def _build_not_found(server: Server) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_: Request, exc: Exception) -> Response:
        status = HTTPStatus(exc.status_code) if isinstance(exc, HTTPException) else HTTPStatus.NOT_FOUND
        code = ProblemCode.METHOD if status is HTTPStatus.METHOD_NOT_ALLOWED else ProblemCode.NOT_FOUND
        server.metrics.http.labels(server.metrics.program, "", _OTHER, str(int(status))).inc()
        return problems.build_response(ProblemError(status, code, status.phrase), uuid.uuid4().hex)

    return handle


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


def _find_header(request: Request, name: str) -> str | None:
    """A header's value; None if the table names no header or the request has none."""
    return (request.headers.get(name) or None) if name else None


def _get_origin(error: BaseException) -> str:
    """File and line where an error was raised: its text may quote inputs, so that stays out of the log."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"
