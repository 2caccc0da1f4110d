"""The server's errors: one tree, and the class and status that each failure of a program gets.

    ServerError
    ├── SettingsError            exit code 2: says which key is wrong
    └── LoadError                a program that cannot be served, with its state and its reasons
        ├── SourceError          no file, or bigger than allowed
        │   └── ForbiddenSourceError   where artifacts may not come from
        ├── DigestError          the bytes are not the ones that the table names
        ├── RefusedError         the allow-list refused it
        ├── SignatureError       another shape than the module's
        ├── ModuleError          the code cannot be imported or is no dspy.Module
        └── WarmupError          it loads, but cannot render a prompt

A bad routing table is `routes.TableError`, a bad URI `uris.UriError`, a bad feedback token `tokens.TokenError`.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

from dspy_server.contract import ErrorClass, ProblemCode, ProgramState, RouteError


class ServerError(Exception):
    """Root of the tree."""


class SettingsError(ServerError):
    """The configuration is wrong; the message names the key."""


class LoadError(ServerError):
    """A program cannot be served.

    Attributes:
        reasons: one sentence each, for people.
    """

    state: ClassVar[ProgramState]
    reason: ClassVar[RouteError]

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class SourceError(LoadError):
    """The artifact is not there, cannot be reached or read, or is too big."""

    state = ProgramState.DIGEST
    reason = RouteError.FETCH


class ForbiddenSourceError(SourceError):
    """Artifacts may not come from there: to try again at once would change nothing."""


class UnavailableError(LoadError):
    """The place where an artifact lies does not answer now, which says nothing of the artifact."""

    state = ProgramState.WAITING
    reason = RouteError.FETCH


class DigestError(LoadError):
    """The artifact's bytes have another sha256 than promised."""

    state = ProgramState.DIGEST
    reason = RouteError.DIGEST


class RefusedError(LoadError):
    """The artifact holds something that is not on the allow-list."""

    state = ProgramState.REFUSED
    reason = RouteError.REFUSED


class SignatureError(LoadError):
    """The artifact was compiled from a program with other predictors or other fields."""

    state = ProgramState.SIGNATURE
    reason = RouteError.REFUSED


class ModuleError(LoadError):
    """The program's code cannot be imported, or is no `dspy.Module`."""

    state = ProgramState.MODULE
    reason = RouteError.MODULE


class WarmupError(LoadError):
    """The loaded program cannot render its prompts."""

    state = ProgramState.REFUSED
    reason = RouteError.WARMUP


@dataclass(frozen=True)
class Failure:
    """How a class of failure looks to a client."""

    status: HTTPStatus
    code: ProblemCode
    title: str


FAILURES: Final[dict[ErrorClass, Failure]] = {
    ErrorClass.PARSE: Failure(
        HTTPStatus.BAD_GATEWAY, ProblemCode.PARSE, "The model's answer does not fit the program's outputs"
    ),
    ErrorClass.RATE_LIMIT: Failure(
        HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.RATE_LIMIT, "The model's provider limits the rate"
    ),
    ErrorClass.TIMEOUT: Failure(
        HTTPStatus.GATEWAY_TIMEOUT, ProblemCode.TIMEOUT, "The model's provider did not answer in time"
    ),
    ErrorClass.TRANSPORT: Failure(
        HTTPStatus.BAD_GATEWAY, ProblemCode.TRANSPORT, "The model's provider cannot be reached"
    ),
    ErrorClass.SERVER: Failure(HTTPStatus.BAD_GATEWAY, ProblemCode.SERVER, "The model's provider failed"),
    ErrorClass.AUTH: Failure(
        HTTPStatus.BAD_GATEWAY, ProblemCode.AUTH, "The model's provider refused the server's key or model"
    ),
    ErrorClass.CONTEXT_WINDOW: Failure(
        HTTPStatus.INTERNAL_SERVER_ERROR, ProblemCode.CONTEXT_WINDOW, "The prompt exceeds the model's context"
    ),
    ErrorClass.DEADLINE: Failure(
        HTTPStatus.GATEWAY_TIMEOUT, ProblemCode.DEADLINE, "The program did not end before the deadline"
    ),
    ErrorClass.BREAKER_OPEN: Failure(
        HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.DEGRADED, "No model can answer at the moment"
    ),
    ErrorClass.INTERNAL: Failure(
        HTTPStatus.INTERNAL_SERVER_ERROR, ProblemCode.INTERNAL, "The program failed"
    ),
}

NO_LM: Final = frozenset(
    {
        ErrorClass.TRANSPORT,
        ErrorClass.TIMEOUT,
        ErrorClass.SERVER,
        ErrorClass.RATE_LIMIT,
        ErrorClass.AUTH,
        ErrorClass.BREAKER_OPEN,
    }
)
"""Classes of failures that mean: no target could answer."""
