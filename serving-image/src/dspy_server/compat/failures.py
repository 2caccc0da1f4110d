"""DSPy's errors: their classes, and those that our engines raise."""

from http import HTTPStatus
from typing import Final

from dspy import lm15
from dspy.utils.exceptions import (
    AdapterParseError,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
)

from dspy_server.contract import ErrorClass

EngineError = lm15.LM15Error

# Specific classes precede their parents.
_ENGINE_CLASSES: Final[tuple[tuple[type[Exception], ErrorClass], ...]] = (
    (lm15.ContextLengthError, ErrorClass.CONTEXT_WINDOW),
    (lm15.AuthError, ErrorClass.AUTH),
    (lm15.BillingError, ErrorClass.AUTH),
    (lm15.RateLimitError, ErrorClass.RATE_LIMIT),
    (lm15.UnsupportedModelError, ErrorClass.AUTH),
    (lm15.InvalidRequestError, ErrorClass.INTERNAL),
    (lm15.TimeoutError, ErrorClass.TIMEOUT),
    (lm15.ServerError, ErrorClass.SERVER),
    (lm15.ConfigurationError, ErrorClass.AUTH),
    (lm15.TransportError, ErrorClass.TRANSPORT),
    (lm15.StreamAssemblyError, ErrorClass.TRANSPORT),
    (lm15.ProviderError, ErrorClass.SERVER),
)
_PROGRAM_CLASSES: Final[tuple[tuple[type[Exception], ErrorClass], ...]] = (
    (AdapterParseError, ErrorClass.PARSE),
    (ContextWindowExceededError, ErrorClass.CONTEXT_WINDOW),
    (LMAuthError, ErrorClass.AUTH),
    (LMBillingError, ErrorClass.AUTH),
    (LMRateLimitError, ErrorClass.RATE_LIMIT),
    (LMUnsupportedModelError, ErrorClass.AUTH),
    (LMInvalidRequestError, ErrorClass.INTERNAL),
    (LMTimeoutError, ErrorClass.TIMEOUT),
    (LMServerError, ErrorClass.SERVER),
    (LMConfigurationError, ErrorClass.AUTH),
    (LMTransportError, ErrorClass.TRANSPORT),
    (LMError, ErrorClass.INTERNAL),
)


def get_retry_after(error: Exception) -> float | None:
    """Seconds that a rate-limited provider asks to wait."""
    return getattr(error, "retry_after", None)


def classify_engine_error(error: Exception) -> ErrorClass:
    """The class of a target's failure."""
    if _is_unknown_model(error):
        return ErrorClass.AUTH
    return next((cls for kind, cls in _ENGINE_CLASSES if isinstance(error, kind)), ErrorClass.INTERNAL)


def classify_program_error(error: BaseException) -> ErrorClass:
    """The class of a program's failure, as DSPy raised it."""
    if isinstance(error.__cause__, BreakerOpenError):
        return ErrorClass.BREAKER_OPEN
    if _is_unknown_model(error):
        return ErrorClass.AUTH
    return next((cls for kind, cls in _PROGRAM_CLASSES if isinstance(error, kind)), ErrorClass.INTERNAL)


def _is_unknown_model(error: BaseException) -> bool:
    """A 404, with or without a code that says so: the address or the model is wrong, not the request."""
    return getattr(error, "status", None) == HTTPStatus.NOT_FOUND


class BreakerOpenError(lm15.ServerError):  # type: ignore[misc]  # dspy has no types
    """No target was asked: the breakers of all are open."""


def build_breaker_open(retry_after: float) -> Exception:
    """What an engine raises when it may ask nobody for `retry_after` seconds."""
    return BreakerOpenError("no LM can answer", retry_after=retry_after)


def build_rate_limit(retry_after: float) -> Exception:
    """What an engine raises when it does not ask a target that wants to be left alone."""
    error: Exception = lm15.RateLimitError("the provider limits the rate", retry_after=retry_after)
    return error


def build_timeout(message: str) -> Exception:
    """What an engine raises when a provider did not answer in time."""
    error: Exception = lm15.TimeoutError(message)
    return error


def has_status(error: Exception) -> bool:
    """Whether a provider answered with this error itself."""
    return getattr(error, "status", None) is not None
