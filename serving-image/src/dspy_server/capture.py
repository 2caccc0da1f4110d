"""A sample of redacted questions and answers in a capped Redis list: what `harvest.py` makes examples of.

Off the request's path; without Redis, or when it fails, nothing is captured and nothing else changes.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dspy_server import schema
from dspy_server.redact import MAX_CHARS, Redactor
from dspy_server.settings import Capture as CaptureSettings
from dspy_server.store import Store

MAX_BYTES: Final = 65_536
KEEP_SECONDS: Final = 30 * 86_400
"""How long a list lives after the last capture."""


@dataclass(frozen=True)
class Captured:
    """One answered question, redacted."""

    track: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


def get_key(program: str) -> str:
    """The list of a program's captured questions, newest first."""
    return f"dspy:c:{program}"


class Capture:
    """Keeps a sample of what a program was asked and answered; off without a store."""

    def __init__(
        self,
        store: Store | None,
        settings: CaptureSettings,
        redactor: Redactor,
        *,
        program: str,
        choose: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._settings = settings
        self._redactor = redactor
        self._key = get_key(program)
        self._choose = choose

    def offer(self, track: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Keep a question and its answer, if they are of the sample and not huge; never waits, changes neither."""
        if self._store is None or self._choose() >= self._settings.sample or not self._settings.max:
            return
        plain = schema.encode(inputs)
        if _has_long_text(plain) or _has_long_text(outputs):
            return  # redaction would cut it, and half a question is no example
        record = self._redactor.redact({"track": track, "inputs": plain, "outputs": outputs})
        data = json.dumps(record, ensure_ascii=False).encode()
        if len(data) <= MAX_BYTES:
            self._store.later(self._push(self._store, data))

    async def _push(self, store: Store, data: bytes) -> None:
        await store.call_all(
            ("LPUSH", self._key, data),
            ("LTRIM", self._key, 0, self._settings.max - 1),
            ("EXPIRE", self._key, KEEP_SECONDS),
        )


async def list_captured(store: Store, program: str) -> list[Captured]:
    """What was captured, newest first; a value that cannot be read is left out.

    Raises:
        StoreError: Redis does not answer.
    """
    found: list[bytes] = await store.call("LRANGE", get_key(program), 0, -1)
    parsed = (_parse(data) for data in found)
    return [item for item in parsed if item is not None]


def _parse(data: bytes) -> Captured | None:
    try:
        value = json.loads(data)
        captured = Captured(str(value["track"]), dict(value["inputs"]), dict(value["outputs"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return captured if captured.inputs and captured.outputs else None


def _has_long_text(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) > MAX_CHARS
    if isinstance(value, Mapping):
        return any(_has_long_text(item) for item in value.values())
    return isinstance(value, Sequence) and any(_has_long_text(item) for item in value)
