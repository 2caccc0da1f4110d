"""Planted secrets never get through, plain tickets do as they are, and no text takes long."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_server.redact import CUT, MAX_CHARS, Redactor

TICKETS = sorted((Path(__file__).parents[3] / "examples/support-triage/data").glob("*.jsonl"))
ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

SECRETS = {
    "[EMAIL]": [
        "alice@example.com", "a.b+c-d_e@mail.example.co.uk", "ALICE@EXAMPLE.COM", "o'brien@example.ie",
        "josé@example.es", "иван@пример.рф", "x@y.io", '"j doe"@example.org', "a" * 80 + "@example.com",
    ],
    "[PHONE]": [
        "13800138000", "138 0013 8000", "138-0013-8000", "+86 138 0013 8000", "+8613800138000", "8613800138000",
        "008613800138000", "+1 555 123 4567", "+1 (555) 123-4567", "(555) 123-4567", "555-123-4567",
        "555.123.4567", "1 800 555 1234", "+44 20 7946 0958", "020 7946 0958", "07700 900123", "0044 20 7946 0958",
        "+49 (0)30 123456", "010-12345678", "06 12 34 56 78", "+33 6 12 34 56 78", "98765 43210",
        "\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff18\uff10\uff10\uff10", "+351 912 345 678",
    ],
    "[CARD]": [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5500 0000 0000 0004",
        "378282246310005", "3782 822463 10005", "6011000990139424", "3530111333300000", "6200000000000005",
        "2223003122003222", "4222222222222",
    ],
    "[ID]": ["11010519491231002X", "11010519491231002x", "110105 19491231 002X", "440308199901101512"],
    "[KEY]": [
        "sk-0123456789abcdef0123", "sk-proj-AbCd_0123456789-abcdefgh", "sk-ant-api03-abcdefghij0123456789",
        "Bearer abcDEF.123-456", "bearer 0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345", "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
}  # fmt: skip
PLANTED = [(label, secret) for label, secrets in SECRETS.items() for secret in secrets]
FRAMES = [
    "{}",
    "please use {} for it",
    "我的号码是{}谢谢",
    "({})",
    "a:{};",
    "{}\n{}",
    "x, {}, {}.",
    '{{"field": "{}"}}',
]
PLAIN = [
    "order 1234567 of 2026-11-23 15:28:00", "from 192.168.100.200 and 10.250.100.100", "version 1.2.3.4",
    "it costs 1,234.50 or 3@2.50 each", "the bearer certificate of our basic subscription", "10x faster in 2026",
    "order 4111111111111112", "id 110105194912310021", "01.02.2026 at 10:30", "token count 512, 20 30 40 50",
    "trace 550e8400-e29b-41d4-a716-446655440000", "at 1700000000000 ms", "@alice wrote a@b", "sk-short",
    "3f9a12c4d5e613880013", "pi is 3.14159265358979",
]  # fmt: skip


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor()


@pytest.mark.parametrize(("label", "secret"), PLANTED, ids=[secret[:24] for _, secret in PLANTED])
def test_a_planted_secret_never_gets_through(redactor: Redactor, label: str, secret: str) -> None:
    for frame in FRAMES:
        text = redactor.redact_text(frame.format(secret, secret))
        assert secret not in text
        assert text.count(label) == frame.count("{}"), text
        digits = "".join(char for char in text if char.isdigit())
        assert len(digits) <= 1, text  # the country code's + and nothing of the number is left


def test_two_secrets_side_by_side_are_both_found(redactor: Redactor) -> None:
    text = "4111 1111 1111 1111 12/26 123 13800138000 13900139000 11010519491231002X a@b.io,c@d.io"
    assert redactor.redact_text(text) == "[CARD] 12/26 123 [PHONE] [PHONE] [ID] [EMAIL],[EMAIL]"


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_text_stays_as_it_is(redactor: Redactor, text: str) -> None:
    assert redactor.redact_text(text) == text


def test_the_tickets_of_the_example_stay_as_they_are(redactor: Redactor) -> None:
    tickets = [line for path in TICKETS for line in path.read_text().splitlines()]
    assert len(tickets) >= 480
    assert [text for text in tickets if redactor.redact_text(text) != text] == []


def test_a_named_secret_is_redacted_and_its_name_is_not(redactor: Redactor) -> None:
    assert redactor.redact_text('password: hunter2, api_key="x1y2z3"') == 'password: [KEY], api_key="[KEY]"'
    assert redactor.redact_text("https://user:word@host/path") == "https://[KEY]@host/path"


def luhn(digits: str) -> int:
    doubled = [int(char) * (2 if index % 2 == 0 else 1) for index, char in enumerate(reversed(digits))]
    return -sum(value // 10 + value % 10 for value in doubled) % 10


words = st.text(st.characters(exclude_categories=("Cs", "Nd", "Nl", "No")), max_size=20)


@given(before=words, body=st.integers(400_000_000_000_000, 599_999_999_999_999), after=words)
def test_each_number_with_a_luhn_digit_is_a_card(before: str, body: int, after: str) -> None:
    card = f"{body}{luhn(str(body))}"
    text = Redactor().redact_text(f"{before} {card} {after}")
    assert card not in text


@given(
    day=st.dates(),
    place=st.integers(110000, 659999),
    number=st.integers(0, 999),
    joint=st.sampled_from(["", " "]),
)
def test_each_chinese_id_with_its_check_character_is_found(
    day: Any, place: int, number: int, joint: str
) -> None:
    born = f"19{day.year % 100:02}{day.month:02}{day.day:02}"
    body = f"{place}{born}{number:03}"
    check = "10X98765432"[sum(int(c) * w for c, w in zip(body, ID_WEIGHTS, strict=True)) % 11]
    text = Redactor().redact_text(f"{place}{joint}{born}{joint}{number:03}{check}")
    assert text == "[ID]"


@given(text=st.text(max_size=300))
def test_what_is_redacted_stays_redacted_and_no_text_breaks_it(text: str) -> None:
    redactor = Redactor()
    once = redactor.redact_text(text)
    assert all(secret not in once for _, secret in PLANTED)
    assert "4111111111111111" not in redactor.redact_text(text + " 4111111111111111")


@pytest.mark.parametrize(
    "unit",
    ["a", "a@", "a.", "a@a.", "1 ", "11-", "111 ", "1", "(1", "eyJ", "eyJaaaaaaaaa.", "sk-", "bearer ", "://", '"',
     "call ", "token:   ", "-----BEGIN PRIVATE KEY-----", "+", "0 0", "password=", "@", "-"],
)  # fmt: skip
def test_no_text_takes_long(redactor: Redactor, unit: str) -> None:
    def measure(chars: int) -> float:
        started = time.process_time()
        redactor.redact_text(unit * (chars // len(unit)), limit=chars)
        return time.process_time() - started

    measure(1000)
    short, long = min(measure(4000) for _ in range(3)), min(measure(16000) for _ in range(3))
    assert long < 0.02 or long < short * 8  # linear is 4, quadratic is 16


def test_a_long_text_is_cut_where_no_secret_is_divided(redactor: Redactor) -> None:
    text = "word " * 818 + "13800138000 " + "x" * 5000
    redacted = redactor.redact_text(text)
    assert redacted.endswith(CUT)
    assert len(redacted) <= MAX_CHARS + len(CUT)
    assert "138" not in redacted
    shrunk = "alice@example.com " * 255 + "x" * 10 + " 4111111111111111" * 100  # what is read ends in a card
    assert "4" not in redactor.redact_text(shrunk)
    assert redactor.redact_text("x" * MAX_CHARS) == "x" * MAX_CHARS


def test_a_value_is_copied_and_never_changed(redactor: Redactor) -> None:
    value = {
        "who": ["alice@example.com", {"deep": ("13800138000", 3, None, True, 1.5)}],
        "a@b.io": Path("c@d.io"),
    }
    before = repr(value)
    assert redactor.redact(value) == {
        "who": ["[EMAIL]", {"deep": ["[PHONE]", 3, None, True, 1.5]}],
        "[EMAIL]": "[EMAIL]",
    }
    assert repr(value) == before


def test_a_value_is_bounded_in_depth_and_width(redactor: Redactor) -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    assert len(json.dumps(redactor.redact(deep))) < 60
    assert len(redactor.redact(list(range(10_000)))) == 100


def test_a_users_own_pattern_is_redacted_too() -> None:
    redactor = Redactor([r"EMP-\d{4,8}", r"Project \w+"])
    assert redactor.redact_text("EMP-12345 of Project Falcon") == "[REDACTED] of [REDACTED]"


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "(a+)+b",
        "(a|ab)+c",
        r"(a)\1",
        "(?=a)b",
        "(?<!a)b",
        "a*a*b",
        r"\w+\s+\d+",
        "",
        "a*",
        "x" * 257,
        "(a{1,9}){1,9}",
    ],
)
def test_a_pattern_that_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|repeat|empty"):
        Redactor([pattern])
