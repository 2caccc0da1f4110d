import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_server.capture import Captured
from dspy_server.examples import ExamplesError, parse_examples
from dspy_server.harvest import NEAR, build_line, get_shingles, is_near, list_known, select

WORDS = [f"word{number}" for number in range(400)]


def take(text: str, queue: str = "billing", track: str = "stable") -> Captured:
    return Captured(track, {"ticket": text}, {"queue": queue})


def write(number: int, length: int = 12) -> str:
    """A text that shares no three words with that of another number."""
    return " ".join(f"{word}x{number}" for word in WORDS[:length])


def get_similarity(one: str, other: str) -> float:
    a, b = get_shingles({"ticket": one}), get_shingles({"ticket": other})
    return len(a & b) / len(a | b)


def test_tracks_and_answers_come_by_turns() -> None:
    many = [take(write(n), "billing", "stable") for n in range(100)]
    few = [take(write(100 + n), "shipping", "stable") for n in range(6)]
    canary = [take(write(200 + n), queue, "canary") for n, queue in enumerate(["billing", "sales"] * 10)]
    chosen = select([*many, *few, *canary], [], 20)
    assert len(chosen) == 20
    counts = {
        (track, queue): sum((item.track, item.outputs["queue"]) == (track, queue) for item in chosen)
        for track, queue in [
            ("stable", "billing"),
            ("stable", "shipping"),
            ("canary", "billing"),
            ("canary", "sales"),
        ]
    }
    assert set(counts.values()) == {5}


def test_what_is_nearly_in_a_set_or_already_chosen_is_left_out() -> None:
    text = write(1, 40)
    near = text.replace("word0x1", "another")
    assert get_similarity(text, near) >= NEAR
    assert select([take(near)], [{"ticket": text}], 20) == []
    assert len(select([take(text), take(near)], [], 20)) == 1
    assert len(select([take(near)], [{"ticket": write(2, 40)}], 20)) == 1


def test_just_below_the_limit_is_another_question() -> None:
    one = " ".join(WORDS[:19])
    other = " ".join([*WORDS[:17], "x", "y"])
    assert 0.78 < get_similarity(one, other) < NEAR
    assert len(select([take(one), take(other)], [], 20)) == 2


@given(st.lists(st.sampled_from("abc"), max_size=14), st.lists(st.sampled_from("abc"), max_size=14))
def test_near_is_what_the_definition_of_jaccard_says(one: list[str], other: list[str]) -> None:
    a, b = get_shingles({"t": " ".join(one)}), get_shingles({"t": " ".join(other)})
    expected = not (a | b) or len(a & b) / len(a | b) >= NEAR
    assert is_near(a, b) == is_near(b, a) == expected


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "我的发票被重复扣款了两次请尽快帮我处理这个问题谢谢你们的帮助"
    assert select([take(text + "吧")], [{"ticket": text}], 20) == []
    assert len(select([take("快递三天没有更新物流信息请问包裹现在在哪里")], [{"ticket": text}], 20)) == 1


def test_the_same_captured_questions_give_the_same_choice_in_any_order() -> None:
    captured = [take(write(n), f"queue{n % 4}") for n in range(40)]
    assert select(captured, [], 10) == select(captured[::-1], [], 10)


def test_a_line_counts_only_after_a_person_has_looked_at_it() -> None:
    line = build_line(take("I was charged twice"), "2026-11-23")
    with pytest.raises(ExamplesError, match="not looked at yet"):
        parse_examples(line.encode())
    looked = parse_examples(line.replace("proposed", "gold").encode())
    assert looked.examples[0].gold == {"queue": "billing"}
    assert looked.examples[0].date.isoformat() == "2026-11-23"


@pytest.mark.parametrize(
    "line",
    [
        {"inputs": {"ticket": "a b c"}, "gold": {"queue": "x"}, "date": "2026-11-02"},
        {"inputs": {"ticket": "a b c"}, "proposed": {"queue": "x"}, "date": "2026-11-02"},
        {"ticket": "a b c", "queue": "x"},
    ],
)
def test_sets_of_every_form_are_known(line: dict[str, Any]) -> None:
    assert list_known(json.dumps(line).encode() + b"\n", ["ticket"]) == [{"ticket": "a b c"}]


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"ticket": "a"}\nx'])
def test_a_set_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="line"):
        list_known(data, ["ticket"])
