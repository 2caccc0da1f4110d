"""What an answer of the API server means: the object, or one error of the tree in `errors.py`.

Called by `client.py` for every answer; pure. Nothing of a body but the server's own `message` is kept.
"""

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

from dspy_operator.errors import Conflict, LostAnswer, OperatorError, Permanent, Transient

MESSAGE_CHARS: Final = 300
RETRY_AFTER_CAP: Final = 30.0
TRY_AGAIN: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,  # after a new login
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.GONE,  # a list's continuation expired
        HTTPStatus.TOO_MANY_REQUESTS,  # refused before it was looked at
    }
)
PRECONDITIONS: Final = frozenset({"metadata.resourceVersion", "metadata.uid"})


def parse_date(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date, None if there is none."""
    try:
        parsed = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp()


def parse_retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds to wait, from a number or an HTTP date, within 0 and 30 s; None if it says neither.

    Args:
        value: the header `Retry-After`.
        date: the header `Date` of the same answer, against which a date is read: no clock of ours.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = parse_date(value), parse_date(date)
        if until is None or now is None:
            return None
        seconds = until - now
    return min(max(seconds, 0.0), RETRY_AFTER_CAP) if seconds == seconds else None  # noqa: PLR0124  NaN


def parse_object(data: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, None if it is anything else."""
    try:
        parsed = json.loads(data)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def error_of(
    status: int, body: dict[str, Any] | None, what: str, *, mutating: bool, retry_after: float | None
) -> OperatorError:
    """The error that an answer with a status of 400 and above stands for.

    Args:
        status: the HTTP status.
        body: the parsed body, None if it was no JSON object.
        what: verb, resource and name, for people.
        mutating: whether the request would have changed something.
        retry_after: seconds, from `parse_retry_after`.
    """
    text = f"{what}: {status}{_message(body)}"
    if _is_conflict(status, body, mutating=mutating):
        return Conflict(text)
    if status in TRY_AGAIN:
        return Transient(text, retry_after=retry_after)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        lost = LostAnswer if mutating else Transient
        return lost(text, retry_after=retry_after)
    return Permanent(text, code=status)


def _message(body: dict[str, Any] | None) -> str:
    """`: <message>` of a Status object; a proxy's page has none."""
    if body is None or body.get("kind") != "Status" or not isinstance(body.get("message"), str):
        return ""
    return f": {body['message'][:MESSAGE_CHARS]}"


def _is_conflict(status: int, body: dict[str, Any] | None, *, mutating: bool) -> bool:
    """Whether the world is not as the request took it to be."""
    match status:
        case HTTPStatus.CONFLICT:
            return True
        case HTTPStatus.NOT_FOUND:
            return mutating
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            causes = ((body or {}).get("details") or {}).get("causes") or ()
            return any(cause.get("field") in PRECONDITIONS for cause in causes)
        case _:
            return False


def rfc3339_micro(t: float) -> str:
    """A Kubernetes MicroTime."""
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
