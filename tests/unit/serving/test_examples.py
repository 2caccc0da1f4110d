import hashlib
import json
from typing import Any

import pytest

from dspy_server.examples import MAX_BYTES, ExamplesError, parse_examples


def dump(*lines: Any) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"


def line(ticket: str = "a", **changes: Any) -> dict[str, Any]:
    return {"inputs": {"ticket": ticket}, "gold": {"queue": "billing"}, "date": "2026-11-02", **changes}


def list_reasons(data: bytes) -> tuple[str, ...]:
    with pytest.raises(ExamplesError) as caught:
        parse_examples(data)
    return caught.value.reasons


def test_a_set_is_read_with_its_line_numbers_and_digest() -> None:
    data = dump(line("a")) + b"\n" + dump(line("b"))
    found = parse_examples(data)
    assert [(item.line, item.inputs["ticket"]) for item in found.examples] == [(1, "a"), (3, "b")]
    assert found.examples[0].date.isoformat() == "2026-11-02"
    assert found.sha256 == hashlib.sha256(data).hexdigest()


def test_duplicates_are_named_whatever_the_order_of_their_fields() -> None:
    first = line(inputs={"ticket": "a", "language": "de"})
    again = line(inputs={"language": "de", "ticket": "a"}, gold={"queue": "sales"})
    assert list_reasons(dump(first, line("b"), again)) == ("line 3: the same inputs as line 1",)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"inputs": {"ticket": "a"}, "gold": {"queue": "x"}}, "its keys must be"),
        (line(more=1), "its keys must be"),
        (line(inputs={}), "inputs must be"),
        (line(gold={}), "gold must be"),
        (line(gold="billing"), "gold must be"),
        (line(date="yesterday"), "date must be"),
        (line(date=20261102), "date must be"),
        (line(gold={"ticket": "x"}), "ticket: in inputs and in gold"),
        ({"inputs": {"ticket": "a"}, "proposed": {"queue": "x"}, "date": "2026-11-02"}, "not looked at yet"),
        ([], "not a JSON object"),
    ],
)
def test_a_line_that_is_no_example_is_named(bad: Any, says: str) -> None:
    reasons = list_reasons(dump(line("other"), bad))
    assert len(reasons) == 1
    assert reasons[0].startswith("line 2: ")
    assert says in reasons[0]


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_line_that_is_no_json_is_named(data: bytes) -> None:
    assert list_reasons(dump(line()) + data) == ("line 2: not JSON",)


def test_an_empty_set_and_a_huge_one_are_refused() -> None:
    assert list_reasons(b"\n\n") == ("the set has no example",)
    assert "larger" in list_reasons(b" " * (MAX_BYTES + 1))[0]


def test_at_most_twenty_mistakes_are_told() -> None:
    assert len(list_reasons(b"x\n" * 100)) == 20
