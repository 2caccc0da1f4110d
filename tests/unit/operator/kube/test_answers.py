"""What each answer of the API server means."""

from typing import Any

import pytest

from dspy_operator.errors import Conflict, LostAnswer, OperatorError, Permanent, Transient
from dspy_operator.kube.answers import error_of, parse_date, parse_object, parse_retry_after, rfc3339_micro

DATE = "Mon, 23 Nov 2026 08:00:00 GMT"
NOW = 1795420800.0


def error(status: int, body: dict[str, Any] | None = None, *, mutating: bool = True) -> OperatorError:
    return error_of(status, body, "patch pods/x", mutating=mutating, retry_after=3.0)


def status_object(message: str, *fields: str) -> dict[str, Any]:
    causes = [{"field": field, "message": "m"} for field in fields]
    return {"kind": "Status", "message": message, "details": {"causes": causes}}


@pytest.mark.parametrize(
    ("status", "writing", "reading"),
    [
        (400, Permanent, Permanent),
        (401, Transient, Transient),
        (403, Permanent, Permanent),
        (404, Conflict, Permanent),
        (408, Transient, Transient),
        (409, Conflict, Conflict),
        (410, Transient, Transient),
        (413, Permanent, Permanent),
        (422, Permanent, Permanent),
        (429, Transient, Transient),
        (500, LostAnswer, Transient),
        (502, LostAnswer, Transient),
        (503, LostAnswer, Transient),
        (504, LostAnswer, Transient),
    ],
)
def test_a_status_says_what_to_do(
    status: int, writing: type[OperatorError], reading: type[OperatorError]
) -> None:
    assert type(error(status)) is writing
    assert type(error(status, mutating=False)) is reading


@pytest.mark.parametrize("field", ["metadata.resourceVersion", "metadata.uid"])
def test_a_422_about_a_precondition_is_a_conflict(field: str) -> None:
    assert isinstance(error(422, status_object("no", field)), Conflict)
    assert isinstance(error(422, status_object("no", "spec.replicas")), Permanent)


def test_an_error_names_the_request_and_the_servers_message() -> None:
    text = str(error(403, status_object("pods is forbidden: User cannot patch")))
    assert text == "patch pods/x: 403: pods is forbidden: User cannot patch"


def test_a_long_message_is_cut() -> None:
    assert len(str(error(403, status_object("x" * 5000)))) < 330


@pytest.mark.parametrize(
    "body", [None, {"message": "secret"}, {"kind": "Status", "message": {"a": "secret"}}]
)
def test_the_body_of_a_foreign_server_is_not_repeated(body: dict[str, Any] | None) -> None:
    assert str(error(503, body)) == "patch pods/x: 503"


def test_the_wait_that_the_server_asks_for_is_kept() -> None:
    transient = error(429)
    assert isinstance(transient, Transient)
    assert transient.retry_after == 3.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("1", 1.0),
        ("30", 30.0),
        ("0", 0.0),
        ("3600", 30.0),
        ("-5", 0.0),
        ("inf", 30.0),
        ("nan", None),
        ("garbage", None),
        ("", None),
        (None, None),
        ("Mon, 23 Nov 2026 08:00:07 GMT", 7.0),
        ("Mon, 23 Nov 2026 07:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 08:00:00 GMT", 30.0),
    ],
)
def test_retry_after_is_a_number_or_a_date_within_half_a_minute(
    header: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(header, DATE) == seconds


def test_a_date_without_the_servers_own_says_nothing() -> None:
    assert parse_retry_after("Mon, 23 Nov 2026 08:00:07 GMT", None) is None


@pytest.mark.parametrize(("header", "t"), [(DATE, NOW), (None, None), ("", None), ("soon", None)])
def test_a_date_is_seconds_since_1970(header: str | None, t: float | None) -> None:
    assert parse_date(header) == t


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b"\xff\xfe"])
def test_a_body_that_is_no_object_is_none(body: bytes) -> None:
    assert parse_object(body) is None


def test_a_micro_time_has_six_decimals() -> None:
    assert rfc3339_micro(NOW + 0.25) == "2026-11-23T08:00:00.250000Z"
