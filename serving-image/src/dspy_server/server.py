"""What the endpoints of one process share, and what one request learns on its way.

`parts.py` builds the `Server`; `app.py` and `ask.py` use it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.requests import Request

from dspy_server import bodies, logs, problems
from dspy_server.answer_cache import AnswerCache
from dspy_server.call import Call
from dspy_server.capture import Capture
from dspy_server.contract import CacheLabel, ErrorClass, ProblemCode, Rejection, TokenKind
from dspy_server.journal import Journal
from dspy_server.limits import Admission
from dspy_server.lm_cache import LmCache
from dspy_server.metrics import Metrics
from dspy_server.problems import ProblemError
from dspy_server.routes import Table
from dspy_server.sampling import Scorer
from dspy_server.scoring import FeedbackBox
from dspy_server.settings import Config
from dspy_server.shared_limits import SharedLimits
from dspy_server.snapshot import RouteKeeper
from dspy_server.tracing import Tracer
from dspy_server.users import UserLimitError


@dataclass
class Server:
    """What the endpoints share.

    Attributes:
        lm: the one `dspy.LM`, whose engine knows the targets.
        adapter: the one adapter.
        workers: threads for programs without `aforward`, one for each request that is admitted.
        version: the static part of `GET /version`.
        admin_token: file with the token of `/admin/reload`; without it there is no such endpoint.
        build_table: for a server that serves one artifact alone: its table, of a generation; it blocks.
        tracer: of spans, if any are sent.
        draining: set at SIGTERM; `/ready` then says 503 and connections are closed after each answer.
    """

    config: Config
    keeper: RouteKeeper
    metrics: Metrics
    lm: Any
    adapter: Any
    scorer: Scorer
    capture: Capture
    feedback: FeedbackBox | None
    admission: Admission
    users: SharedLimits
    cache: AnswerCache
    lm_cache: LmCache
    workers: Executor
    version: Mapping[str, Any]
    admin_token: Path
    build_table: Callable[[int], Table] | None = None
    tracer: Tracer | None = None
    draining: bool = False


@dataclass
class Exchange:
    """One request on its way; what it learns is what its metrics and its log line say.

    Attributes:
        code: of the problem that it was answered with.
        cache: where its answer comes from.
        calls: what each of its questions used; a batch has several.
        inputs, outputs: alive, of the first question; logged only where text is.
    """

    request_id: str
    journal: Journal = field(default_factory=Journal)
    revision: str = ""
    track: str = ""
    judged: bool = True
    error: ErrorClass | None = None
    code: ProblemCode | None = None
    cache: CacheLabel = CacheLabel.MISS
    calls: list[Call] = field(default_factory=list)
    inputs: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None

    @property
    def trace_id(self) -> str | None:
        """The id of its trace, if it was sampled."""
        return None if self.journal.trace is None else self.journal.trace.trace_id

    def branch(self) -> "Exchange":
        """For one more question of the same request: an answer of its own in the same journal."""
        return Exchange(self.request_id, self.journal, calls=self.calls)

    def describe(self, *, with_text: bool) -> dict[str, Any]:
        """What its log line says; seconds are rounded to tenths of a millisecond."""
        journal, calls = self.journal, self.calls
        seconds = {
            "total": journal.total,
            "queue": journal.queue,
            "program": journal.program,
            "lm": journal.lm,
        }
        modules = {
            name: {"calls": timing.calls, "seconds": round(timing.seconds, 4)}
            for name, timing in journal.modules.items()
        }
        text = {"inputs": self.inputs, "outputs": self.outputs} if with_text else {}
        return {
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "revision": self.revision,
            "track": self.track,
            "judged": self.judged,
            "class": self.error,
            "code": self.code,
            "cache": self.cache if calls else None,
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "modules": modules,
            "model": next((call.model for call in calls if call.model), None),
            "questions": len(calls),
            "lm_calls": sum(call.calls for call in calls),
            "tokens": {kind: sum(call.usage[kind] for call in calls) for kind in TokenKind},
            **text,
        }


async def read_body(server: Server, request: Request) -> Any:
    """A request's JSON; ProblemError if it is none, or too large, which is counted."""
    try:
        return await bodies.read_json(request, max_bytes=server.config.serving.limits.max_body_bytes)
    except ProblemError as problem:
        if problem.code is ProblemCode.SIZE:
            server.metrics.rejected.labels(server.metrics.program, "", Rejection.SIZE).inc()
        raise


def get_origin(error: BaseException) -> str:
    """File and line where an error was raised: its text may quote inputs, so that stays out of the log."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}"


def get_problem(server: Server, exchange: Exchange, error: Exception) -> ProblemError:
    """What a client is told of an error; a refused user is counted, what nobody expected is logged."""
    match error:
        case ProblemError():
            problem = error
        case UserLimitError():
            problem = _refuse_user(server, exchange, error)
        case _:
            logs.get_logger().error("unexpected", error=type(error).__name__, where=get_origin(error))
            problem = problems.build_program_problem(ErrorClass.INTERNAL)
    exchange.code = problem.code
    return problem


def _refuse_user(server: Server, exchange: Exchange, error: UserLimitError) -> ProblemError:
    revision = exchange.revision if exchange.judged else ""
    server.metrics.rejected.labels(server.metrics.program, revision, error.reason).inc()
    code = ProblemCode(str(error.reason))
    return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, code, error.title, retry_after=error.retry_after)
