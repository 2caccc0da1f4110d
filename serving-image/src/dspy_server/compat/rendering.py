"""DSPy's ChatAdapter: the part of a prompt that no input changes is rendered once, the second, JSON call is counted.

DSPy renders the system message and each demonstration anew for every call, which is most of a call's CPU time.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import dspy

from dspy_server.compat import prompts


@dataclass(frozen=True)
class _Prefix:
    """What a predictor's prompt begins with, and what it was rendered from.

    Attributes:
        demos: the predictor's own list; another one, though equal, is rendered by DSPy.
        seen: its content then: a program may change its demonstrations in place.
        known: `messages` as DSPy's requests have them, kept so that they are known.
    """

    instructions: str | None
    demos: list[Any]
    seen: list[Any]
    system: str
    messages: tuple[dict[str, Any], ...]
    known: tuple[prompts.KnownMessage, ...]


class CountingChatAdapter(dspy.ChatAdapter):  # type: ignore[misc]  # dspy has no types
    """Renders as DSPy does; tells `on_retry` before it asks again, in JSON, after an answer that it cannot parse."""

    def __init__(self, *, parse_retry: bool, on_retry: Callable[[], None]) -> None:
        super().__init__(use_json_adapter_fallback=parse_retry)
        self._on_retry = on_retry
        self._plain = dspy.ChatAdapter()
        # A signature belongs to one loaded program and takes its prefix along when it goes.
        self._prefixes: WeakKeyDictionary[Any, _Prefix] = WeakKeyDictionary()

    def remember(self, predictor: Any) -> bool:
        """Render a predictor's prefix, once and for all.

        False, and nothing is remembered, if a prompt with it would not be the one that DSPy renders.
        """
        signature, demos = predictor.signature, predictor.demos
        inputs = _get_stub_inputs(signature)
        expected = self._plain.format(signature, demos, dict(inputs))
        messages = tuple(self._plain.format_demos(signature, demos))
        self._prefixes[signature] = _Prefix(
            signature.__doc__,
            demos,
            copy.deepcopy(demos),
            self._plain.format_system_message(signature),
            messages,
            prompts.remember_messages(messages),
        )
        if self.format(signature, demos, dict(inputs)) == expected:
            return True
        del self._prefixes[signature]
        return False

    def format_system_message(self, signature: Any) -> str:
        """DSPy's hook: the remembered text while the instructions are those that it was rendered from."""
        prefix = self._prefixes.get(signature)
        if prefix is not None and prefix.instructions == signature.__doc__:
            return prefix.system
        text: str = super().format_system_message(signature)
        return text

    def format_demos(self, signature: Any, demos: list[Any]) -> list[dict[str, Any]]:
        """DSPy's hook: the remembered messages while the demonstrations are those that they were rendered from."""
        prefix = self._prefixes.get(signature)
        if prefix is not None and prefix.demos is demos and prefix.seen == demos:
            return [dict(message) for message in prefix.messages]
        messages: list[dict[str, Any]] = super().format_demos(signature, demos)
        return messages

    def _make_json_adapter_fallback(self) -> Any:
        self._on_retry()
        return super()._make_json_adapter_fallback()


# DSPy wraps both for its callbacks, in each class anew: 0.1 ms of CPU time each, and nobody listens to an adapter.
CountingChatAdapter.format = inspect.unwrap(CountingChatAdapter.format)
CountingChatAdapter.parse = inspect.unwrap(CountingChatAdapter.parse)


def _get_stub_inputs(signature: Any) -> dict[str, Any]:
    """Something for each input field, to render a prompt with: a word, or a conversation without messages."""
    return {
        name: dspy.History(messages=[]) if field.annotation is dspy.History else "warm-up"
        for name, field in signature.input_fields.items()
    }
