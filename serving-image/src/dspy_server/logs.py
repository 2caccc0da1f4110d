"""One JSON line per event on standard output; what text there is in one goes through `redact.py`, on a copy.

Loggers of libraries are reduced to where they spoke: their messages may quote inputs.
"""

import functools
import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import orjson
import structlog

from dspy_server.redact import Redactor

_QUOTING: Final = ("dspy", "litellm", "LiteLLM")


STRUCTURAL: Final = frozenset(
    {
        "event", "level", "timestamp", "program", "request_id", "trace_id", "revision", "track", "judged", "route",
        "status", "class", "error_class", "code", "cache", "seconds", "modules", "model", "questions", "lm_calls",
        "tokens", "sha256", "generation", "logger", "line", "where", "error", "exception",
    }
)  # fmt: skip
"""Fields that the server names itself: an id of digits must not be taken for a phone."""


def configure(
    level: str, *, program: str, redactor: Redactor | None = None, file: TextIO = sys.stdout
) -> None:
    """Write JSON lines from `level` up to `file`; call once, before the first log."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            functools.partial(_redact, redactor or Redactor()),
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.BytesLoggerFactory(file.buffer),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(program=program)
    handler = _Forward()
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _QUOTING:
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True


def get_logger() -> Any:
    """A structlog logger."""
    return structlog.get_logger()


class _Forward(logging.Handler):
    """Hands records of libraries to structlog: where and how grave, and the text only of those that quote nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger().bind(logger=record.name, line=f"{record.filename}:{record.lineno}")
        if record.exc_info and record.exc_info[0] is not None:
            log = log.bind(exception=record.exc_info[0].__name__)
        if not record.name.startswith(_QUOTING):
            log = log.bind(message=record.getMessage())
        log.log(record.levelno, "library")


def _redact(
    redactor: Redactor, _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A step of structlog's chain: whatever is text in a line, on a copy."""
    return {name: value if name in STRUCTURAL else redactor.redact(value) for name, value in event.items()}


def _dump(value: Any, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # half a surrogate pair, which is no UTF-8
        return json.dumps(value, default=str).encode()
