"""What the endpoints of one process share, and what one request learns on its way.

`lifecycle.py` builds the `Server`; `app.py` and `ask.py` use it.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.requests import Request

from dspy_server import bodies, logs, problems
from dspy_server.answer_cache import AnswerCache
from dspy_server.contract import CacheLabel, ErrorClass, ProblemCode, Rejection
from dspy_server.limits import Admission
from dspy_server.metrics import Metrics
from dspy_server.problems import ProblemError
from dspy_server.routes import Table
from dspy_server.scoring import FeedbackBox, Scorer
from dspy_server.settings import Config
from dspy_server.shared_limits import SharedLimits
from dspy_server.snapshot import RouteKeeper
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
    users: SharedLimits
    cache: AnswerCache
    workers: Executor
    version: Mapping[str, Any]
    admin_token: Path
    build_table: Callable[[int], Table] | None = None
    draining: bool = False


@dataclass
class Exchange:
    """One request on its way; what it learns is what its metrics and its log line say."""

    request_id: str
    revision: str = ""
    track: str = ""
    judged: bool = True
    error: ErrorClass | None = None
    cache: CacheLabel = CacheLabel.MISS


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
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, UserLimitError):
        return _refuse_user(server, exchange, error)
    logs.get_logger().error("unexpected", error=type(error).__name__, where=get_origin(error))
    return problems.build_program_problem(ErrorClass.INTERNAL)


def _refuse_user(server: Server, exchange: Exchange, error: UserLimitError) -> ProblemError:
    revision = exchange.revision if exchange.judged else ""
    server.metrics.rejected.labels(server.metrics.program, revision, error.reason).inc()
    code = ProblemCode(str(error.reason))
    return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, code, error.title, retry_after=error.retry_after)
