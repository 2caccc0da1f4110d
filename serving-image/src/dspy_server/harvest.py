"""Fresh examples for a set: captured questions of all tracks and answers, none nearly in the sets that are there.

Pure. A person looks at each before it counts: their answers are proposed, not gold.
"""

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from dspy_server.capture import Captured
from dspy_server.examples import PROPOSED

NEAR: Final = 0.8
"""Jaccard similarity of the shingles from which on two questions are the same."""
_SHINGLE: Final = 3
_WORD: Final = re.compile(r"[぀-ヿ㐀-鿿가-힣]|\w+")
"""A word; of scripts without spaces a character."""

Shingles = frozenset[tuple[str, ...]]
_T = TypeVar("_T")


def select(captured: Sequence[Captured], known: Sequence[Mapping[str, Any]], count: int) -> list[Captured]:
    """At most `count` questions, the tracks and answers by turns, none near another or one of `known` inputs."""
    taken = [get_shingles(inputs) for inputs in known]
    chosen: list[Captured] = []
    for item in _by_turns(captured):
        if len(chosen) == count:
            break
        shingles = get_shingles(item.inputs)
        if not any(is_near(shingles, other) for other in taken):
            taken.append(shingles)
            chosen.append(item)
    return chosen


def get_shingles(inputs: Mapping[str, Any]) -> Shingles:
    """All runs of three words of a question; all its words if they are fewer."""
    text = " ".join(str(inputs[name]) for name in sorted(inputs))
    words = _WORD.findall(text.lower())
    size = min(_SHINGLE, len(words))
    return frozenset(tuple(words[start : start + size]) for start in range(len(words) - size + 1))


def is_near(one: Shingles, other: Shingles) -> bool:
    """Whether two questions are nearly the same."""
    if not NEAR * len(other) <= len(one) <= len(other) / NEAR:  # then no overlap can reach it
        return False
    shared = len(one & other)
    return shared >= NEAR * (len(one) + len(other) - shared)


def build_line(item: Captured, date: str) -> str:
    """A line for the set, to be looked at."""
    return json.dumps({"inputs": item.inputs, PROPOSED: item.outputs, "date": date}, ensure_ascii=False)


def list_known(data: bytes, names: Iterable[str]) -> list[Mapping[str, Any]]:
    """The inputs in JSON lines: under `inputs`, or, as in plain training sets, the fields of these names.

    Raises:
        ValueError: a line is no JSON object.
    """
    wanted = set(names)
    known: list[Mapping[str, Any]] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as exc:
            raise ValueError(f"line {number}: not JSON") from exc
        if not isinstance(value, dict):
            raise ValueError(f"line {number}: not a JSON object")  # noqa: TRY004 - a mistake in the file
        inputs = value.get("inputs")
        known.append(
            inputs if isinstance(inputs, dict) else {key: value[key] for key in wanted & value.keys()}
        )
    return known


def _by_turns(captured: Sequence[Captured]) -> Iterator[Captured]:
    """All of it: one of each track by turns, within a track one of each answer, within those as good as shuffled."""
    groups: dict[str, dict[str, list[Captured]]] = defaultdict(lambda: defaultdict(list))
    for item in captured:
        groups[item.track][_digest(item.outputs)].append(item)
    return _alternate(
        list(
            _alternate(
                [sorted(items, key=lambda item: _digest(item.inputs)) for _, items in sorted(answers.items())]
            )
        )
        for _, answers in sorted(groups.items())
    )


def _alternate(lists: Iterable[Sequence[_T]]) -> Iterator[_T]:
    missing = object()
    for row in itertools.zip_longest(*lists, fillvalue=missing):
        for item in row:
            if item is not missing:
                yield item  # type: ignore[misc]  # what is not missing is of the lists


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
