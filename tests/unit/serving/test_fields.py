"""The pieces of a stream, joined, are what DSPy reads in the whole."""

import itertools
from collections.abc import Iterator

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspy_server.fields import FieldSplitter

SIGNATURE = dspy.Signature("question -> first, second")
LINES = st.text(alphabet="ab [#]\n\r\t é漢", max_size=30).filter(lambda text: "[[ ## " not in text)
VALUES = st.one_of(
    LINES, st.sampled_from(["[[", "[[ ## no header", "a [[ ## second ## ]] b", "  x  \n\n y "])
)


def cut(text: str, places: list[int]) -> Iterator[str]:
    marks = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return (text[start:end] for start, end in itertools.pairwise(marks))


def read(pieces: Iterator[str]) -> dict[str, str]:
    splitter = FieldSplitter(["first", "second"])
    found = {"first": "", "second": ""}
    for piece in pieces:
        for field, text in splitter.push(piece):
            found[field] += text
    for field, text in splitter.finish():
        found[field] += text
    return found


@settings(deadline=None)  # a busy machine is no failure
@given(VALUES, VALUES, st.lists(st.integers(0, 300), max_size=40))
def test_however_a_text_is_cut_its_pieces_are_the_fields_that_dspy_reads(
    first: str, second: str, places: list[int]
) -> None:
    text = f"[[ ## first ## ]]\n{first}\n\n[[ ## second ## ]]\n{second}\n\n[[ ## completed ## ]]\n"
    assert read(cut(text, places)) == dspy.ChatAdapter().parse(SIGNATURE, text)


@pytest.mark.parametrize(
    "text",
    [
        "[[ ## first ## ]] on the same line  \nand the next\n[[ ## second ## ]]b",
        "words before\n[[ ## second ## ]]\nb\n[[ ## first ## ]]\na\n[[ ## second ## ]]\nagain",
    ],
)
def test_odd_texts_are_read_as_dspy_reads_them(text: str) -> None:
    whole = dspy.ChatAdapter().parse(SIGNATURE, text)
    assert read(iter([text])) == read(iter(text)) == whole


def test_text_is_passed_on_as_soon_as_it_cannot_be_a_header() -> None:
    splitter = FieldSplitter(["answer"])
    assert splitter.push("[[ ## answer ## ]]\nHello") == [("answer", "Hello")]
    assert splitter.push(" wor") == [("answer", " wor")]
    assert splitter.push("ld\n[[ #") == [("answer", "ld")]
    assert splitter.push("# completed ## ]]") == []
    assert splitter.finish() == []


def test_fields_that_nobody_asked_for_are_left_out() -> None:
    splitter = FieldSplitter(["answer"])
    assert splitter.push("[[ ## secret ## ]]\nx\n[[ ## answer ## ]]\ny\n") == [("answer", "y")]
