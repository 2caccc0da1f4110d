"""The walk of one question: `check` (user, route, inputs), `solve` (program, answer); then, off the path, its score.

`answer` is `POST /ask`; other endpoints that ask walk the same two steps.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dspy_server import answers, bodies, compat, logs, problems, schema
from dspy_server.answer_cache import Known, Turn
from dspy_server.answers import Answer
from dspy_server.call import CALL, CHARS_PER_TOKEN, GRACE_SECONDS, Call, classify
from dspy_server.clients import cancelled_when_gone
from dspy_server.contract import CacheLabel, Degradation, ErrorClass, ProblemCode, Rejection
from dspy_server.errors import NO_LM
from dspy_server.limits import QueueFullError
from dspy_server.metrics import REVISION
from dspy_server.problems import ProblemError
from dspy_server.server import Exchange, Server, get_origin, read_body
from dspy_server.snapshot import Choice, Snapshot


@dataclass(frozen=True)
class Question:
    """One question that was let in: whose it is, who answers it, until when.

    Attributes:
        user: the user header's value.
        payer: the user whose limits it uses; empty if nobody's.
        key: of its answer in the cache; None if it is not to be cached.
        started: of `time.perf_counter`, when its body was there.
        listener: hears what the program says before its end.
    """

    choice: Choice
    inputs: Mapping[str, Any]
    user: str | None
    payer: str
    key: str | None
    call: Call
    started: float
    listener: compat.FieldListener | None = None


async def answer(server: Server, request: Request, exchange: Exchange) -> Response:
    """`POST /ask`: the answer to one question.

    Raises:
        ProblemError: there is none, and why.
        UserLimitError: this user has had enough for now.
        ClientGoneError: nobody waits for it any more.
    """
    body = await read_body(server, request)
    question = await check(server, request, exchange, bodies.get_inputs(body))
    async with cancelled_when_gone(request):
        return answers.build_response(await solve(server, question, exchange))


async def check(server: Server, request: Request, exchange: Exchange, inputs: Mapping[str, Any]) -> Question:
    """Let one question in: its user, its route, its inputs; `exchange` learns them.

    Raises:
        ProblemError: no program, no such route, or inputs that do not fit.
        UserLimitError: too many of this user.
    """
    started = time.perf_counter()
    snapshot = server.keeper.current
    if snapshot is None:
        raise build_not_ready()
    user = _find_header(request, snapshot.table.user_header)
    payer = server.users.get_user(user)
    await server.users.take(payer)
    choice = _choose(server, snapshot, request, user or exchange.request_id)
    exchange.revision, exchange.track = choice.route.revision, choice.route.track
    exchange.judged = choice.judged
    exchange.journal.describe(revision=exchange.revision, track=exchange.track)
    try:
        parsed = choice.program.inputs.parse(inputs)
    except schema.InputError as exc:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemCode.INPUTS,
            "The inputs do not fit the program's signature",
            errors=exc.mistakes,
        ) from exc
    deadline = asyncio.get_running_loop().time() + server.config.lm.timeout
    call = Call(deadline, choice.route.revision)
    exchange.calls.append(call)
    exchange.inputs = parsed
    if exchange.journal.trace is not None:
        call.on_attempt = exchange.journal.trace.note_attempt
    key = server.cache.find_key(choice.route, inputs, user) if choice.judged else None
    return Question(choice, parsed, user, payer, key, call, started)


async def solve(server: Server, question: Question, exchange: Exchange) -> Answer:
    """The answer: known already, the program's, or one that stands in when no LM could answer.

    Raises:
        ProblemError: there is none, and why.
        UserLimitError: today's budget of this user is used.
    """
    async with server.cache.turn(question.key, exchange.revision) as turn:
        exchange.cache = turn.label
        if turn.known is None:
            return await _run(server, question, exchange, turn)
        exchange.outputs = turn.known.outputs
        _observe(server, question, exchange)
        return answers.build_cached(question.choice, turn.known, exchange.request_id)


async def _run(server: Server, question: Question, exchange: Exchange, turn: Turn) -> Answer:
    """The program's answer, kept for others, or one that stands in."""
    choice, call = question.choice, question.call
    estimate = server.config.lm.primary.max_tokens + len(str(question.inputs)) // CHARS_PER_TOKEN
    try:
        async with server.users.spend(question.payer, estimate, call.count_tokens):
            prediction = await _predict(server, question, exchange)
    except ProblemError as problem:
        if exchange.error is ErrorClass.PARSE:
            server.lm_cache.forget(call.entries)
        return _degrade(server, question, exchange, problem, turn.stale)
    outputs = schema.encode_outputs(prediction)
    exchange.outputs = outputs
    server.cache.keep(question.key, turn, outputs, call.model)
    exchange.cache = CacheLabel.HIT if call.is_cached else exchange.cache
    _observe(server, question, exchange)
    if choice.judged:
        server.scorer.offer(exchange.revision, question.user, question.inputs, prediction)
        server.capture.offer(choice.route.track, question.inputs, outputs)
    token = _find_token(server, choice, exchange.request_id, question.user)
    return answers.build_answer(choice, call, outputs, exchange.request_id, token=token, cache=exchange.cache)


def build_not_ready() -> ProblemError:
    """The problem of a server that has no program yet."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.NOT_READY, "No program is loaded yet", retry_after=1
    )


def _observe(server: Server, question: Question, exchange: Exchange) -> None:
    """Count the time of an answer, unless it was sent by the override header."""
    if question.choice.judged:
        seconds = time.perf_counter() - question.started
        server.metrics.observe_answer(exchange.revision, exchange.cache, seconds, exchange.trace_id)


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


def _degrade(
    server: Server, question: Question, exchange: Exchange, problem: ProblemError, stale: Known | None
) -> Answer:
    """What a client gets when no LM could answer: a stale answer, else the configured outputs, else the problem.

    None of them is an answer of the program now: never scored or cached, in no latency; the failure stays counted.
    """
    has_begun = question.listener is not None and question.listener.has_heard
    if exchange.error not in NO_LM or has_begun:
        raise problem
    choice = question.choice
    outputs = server.config.serving.degraded.outputs
    kind = Degradation.OUTPUTS if outputs else Degradation.REFUSED
    kind = kind if stale is None else Degradation.STALE
    revision = choice.route.revision if choice.judged else ""
    server.metrics.degraded.labels(server.metrics.program, revision, kind).inc()
    if stale is not None:
        return answers.build_cached(choice, stale, exchange.request_id, is_degraded=True)
    if not outputs:
        raise problem
    return answers.build_degraded(choice, outputs, exchange.request_id)


async def _predict(server: Server, question: Question, exchange: Exchange) -> Any:
    """The program's prediction; `question.call` says what it used.

    Raises:
        ProblemError: of the class of the failure, which is counted.
    """
    choice, call = question.choice, question.call
    revision = choice.route.revision if choice.judged else ""
    tokens = (REVISION.set(revision), CALL.set(call))
    inflight = server.metrics.inflight.labels(server.metrics.program, revision)
    inflight.inc()
    queued_at = exchange.journal.now()
    try:
        async with (
            asyncio.timeout_at(call.deadline + GRACE_SECONDS),
            server.admission.slot(call.deadline),
        ):
            hearing = {} if question.listener is None else question.listener.settings
            callbacks = compat.watch(exchange.journal)
            with (
                exchange.journal.run(queued_at),
                compat.overrides(lm=server.lm, adapter=server.adapter, callbacks=callbacks, **hearing),
            ):
                return await choice.program.answer(question.inputs, server.workers)
    except QueueFullError as exc:
        server.metrics.rejected.labels(server.metrics.program, revision, Rejection.QUEUE).inc()
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            ProblemCode.QUEUE,
            "Too many requests at once",
            retry_after=exc.retry_after,
        ) from exc
    except Exception as exc:
        error_class = classify(exc, call)
        exchange.error = error_class
        server.metrics.errors.labels(server.metrics.program, revision, error_class).inc()
        _log_failure(exchange, exc, error_class)
        raise problems.build_program_problem(error_class, retry_after=call.retry_after) from exc
    finally:
        call.abandon()
        inflight.dec()
        REVISION.reset(tokens[0])
        CALL.reset(tokens[1])


def _log_failure(exchange: Exchange, error: Exception, error_class: ErrorClass) -> None:
    logs.get_logger().warning(
        "ask_failed",
        request_id=exchange.request_id,
        revision=exchange.revision,
        track=exchange.track,
        error_class=error_class,
        error=type(error).__name__,
        status=getattr(error, "status", None),
        where=get_origin(error),
    )


def _find_token(server: Server, choice: Choice, request_id: str, user: str | None) -> str | None:
    if server.feedback is None or not choice.judged:
        return None
    return server.feedback.issue(choice.route.revision, request_id, user)


def _find_header(request: Request, name: str) -> str | None:
    """A header's value; None if the table names no header or the request has none."""
    return (request.headers.get(name) or None) if name else None
