"""From a prompt's messages to DSPy's request: what no input changes is converted and checked once, not in each call.

`rendering.py` says which messages those are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import orjson
from dspy import lm15
from dspy._vendor.lm15.providers import openai_chat
from dspy.clients import execution

# ruff: noqa: SLF001 - this module is about what is inside of DSPy

_ingest = openai_chat._ingest_messages
_check = execution._check_encodable
_KEYS: Final = {"role", "content"}
_TALK: Final = frozenset({"user", "assistant"})


@dataclass(frozen=True)
class KnownMessage:
    """A message as DSPy's requests have it; that itself cannot be kept weakly."""

    message: Any


_known: WeakValueDictionary[tuple[str, str], KnownMessage] = WeakValueDictionary()


def quicken_prompts() -> None:
    """Put both in the place of DSPy's own; may be called again."""
    openai_chat._ingest_messages = ingest_messages
    execution._check_encodable = check_encodable


def remember_messages(rows: Iterable[Mapping[str, Any]]) -> tuple[KnownMessage, ...]:
    """DSPy's messages of these; each is known for as long as somebody keeps it."""
    return tuple(_remember(row) for row in rows if _is_talk(row))


def _remember(row: Mapping[str, Any]) -> KnownMessage:
    key = (row["role"], row["content"])
    found = _known.get(key)
    if found is None:
        body = {"model": "any", "messages": [dict(row)]}
        found = _known[key] = KnownMessage(lm15.request_from_openai_chat(body).messages[0])
    return found


def ingest_messages(provider: str, rows: Any, spelling: Any) -> tuple[Any, list[Any], bool, int | None]:
    """What DSPy makes of messages: system message, the others, and where a provider's cache may cut."""
    known = _list_known(rows)
    rest = rows[1 + len(known) :] if known else []
    if not known or not all(_is_talk(row) for row in rest):
        found: tuple[Any, list[Any], bool, int | None] = _ingest(provider, rows, spelling)
        return found
    _, messages, is_cut, cut = _ingest(provider, rest, spelling)
    return rows[0]["content"], [*known, *messages], is_cut, cut


def _list_known(rows: Any) -> list[Any]:
    """The messages after the system message that are remembered, up to the first that is not."""
    known: list[Any] = []
    if not isinstance(rows, list) or not rows or not _is_text(rows[0]) or rows[0]["role"] != "system":
        return known
    for row in rows[1:]:
        found = _known.get((row["role"], row["content"])) if _is_talk(row) else None
        if found is None:
            break
        known.append(found.message)
    return known


def _is_talk(row: Any) -> bool:
    return _is_text(row) and row["role"] in _TALK


def _is_text(row: Any) -> bool:
    """Whether a message is text and nothing else."""
    return isinstance(row, dict) and row.keys() == _KEYS and type(row["content"]) is str


def check_encodable(value: Any, where: str) -> None:
    """Refuse text that no provider can receive: what can be written as JSON has none; DSPy looks at the rest."""
    try:
        orjson.dumps(value)
    except TypeError:
        _check(value, where)
