"""One JSON line per event on standard output, and no text of requests, answers or prompts in any of them.

Loggers of libraries are reduced to where they spoke: their messages may quote inputs.
"""

import logging
import sys
from typing import Any, Final, TextIO

import orjson
import structlog

_QUOTING: Final = ("dspy", "litellm", "LiteLLM")


def configure(level: str, *, program: str, file: TextIO = sys.stdout) -> None:
    """Write JSON lines from `level` up to `file`; call once, before the first log."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
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


def _dump(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=str)
