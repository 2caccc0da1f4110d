"""What the simulated API server answers: an HTTP status and a body."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Object = dict[str, Any]


class Answer(NamedTuple):
    """`retry_after` in seconds, if the server asks for it."""

    status: int
    body: Object
    retry_after: float | None = None


class Refused(Exception):  # noqa: N818  what happened to the request
    """The request changes nothing."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body["message"])
        self.answer = answer


def succeed(body: Object) -> Answer:
    """200 with an object."""
    return Answer(200, body)


def fail(
    code: int, reason: str, message: str, *, causes: Sequence[str] = (), retry_after: float | None = None
) -> Answer:
    """A `Status` that says why not; `causes` are the fields that are to blame."""
    body: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    if causes:
        found = [{"reason": "FieldValueInvalid", "field": field, "message": message} for field in causes]
        body["details"] = {"causes": found}
    return Answer(code, body, retry_after)
