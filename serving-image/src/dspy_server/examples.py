"""A set of examples with gold fields, as the regression gate and the harvest read it: JSON lines -> checked examples.

Pure. One line: `{"inputs": {…}, "gold": {…}, "date": "2026-11-23"}`, the date being when it was added to the set.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_BYTES: Final = 16 << 20
MAX_MISTAKES: Final = 20
_KEYS: Final = frozenset({"inputs", "gold", "date"})
PROPOSED: Final = "proposed"
"""What stands in the place of `gold` until a person has looked at a harvested line."""


class ExamplesError(ValueError):
    """The set cannot be used.

    Attributes:
        reasons: one sentence each, with the number of the line.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Example:
    """One line of a set; `line` counts from 1."""

    line: int
    inputs: Mapping[str, Any]
    gold: Mapping[str, Any]
    date: dt.date


@dataclass(frozen=True)
class ExampleSet:
    """A checked set and the sha256 of its bytes."""

    examples: tuple[Example, ...]
    sha256: str


def parse_examples(data: bytes) -> ExampleSet:
    """The examples of a set.

    Raises:
        ExamplesError: it is empty or too large, or lines are no examples or twice in it; the first 20 are named.
    """
    if len(data) > MAX_BYTES:
        raise ExamplesError(f"the set is larger than {MAX_BYTES} bytes")
    examples: list[Example] = []
    mistakes: list[str] = []
    first: dict[str, int] = {}
    for number, text in enumerate(data.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            example = _parse_line(number, text)
        except ValueError as exc:
            mistakes.append(f"line {number}: {exc}")
            continue
        earlier = first.setdefault(get_key(example.inputs), number)
        if earlier != number:
            mistakes.append(f"line {number}: the same inputs as line {earlier}")
        examples.append(example)
    if mistakes:
        raise ExamplesError(*mistakes[:MAX_MISTAKES])
    if not examples:
        raise ExamplesError("the set has no example")
    return ExampleSet(tuple(examples), hashlib.sha256(data).hexdigest())


def get_key(inputs: Mapping[str, Any]) -> str:
    """The same text for the same inputs, whatever their order."""
    return json.dumps(inputs, sort_keys=True, ensure_ascii=False)


def _parse_line(number: int, text: bytes) -> Example:
    try:
        value = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise ValueError("not JSON") from exc
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a mistake in the file, not in the code
    if PROPOSED in value:
        raise ValueError(f"not looked at yet: check {PROPOSED!r}, then call it 'gold'")
    if value.keys() != _KEYS:
        raise ValueError(f"its keys must be inputs, gold and date, not {', '.join(sorted(value)) or 'none'}")
    for key in ("inputs", "gold"):
        if not isinstance(value[key], dict) or not value[key]:
            raise ValueError(f"{key} must be an object with a field")
    if both := value["inputs"].keys() & value["gold"].keys():
        raise ValueError(f"{', '.join(sorted(both))}: in inputs and in gold")
    return Example(number, value["inputs"], value["gold"], _parse_date(value["date"]))


def _parse_date(value: Any) -> dt.date:
    try:
        return dt.date.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise ValueError("date must be a day such as 2026-11-23") from exc
