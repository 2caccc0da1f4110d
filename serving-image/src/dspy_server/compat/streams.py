"""DSPy's streams: events of engines, and what a program's predictor says while it is still speaking."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from dspy import lm15
from dspy.adapters.decision_state import DecisionState

from dspy_server.compat.modules import list_predictors
from dspy_server.fields import FieldSplitter

StreamCutError = lm15.StreamAssemblyError


def is_content(event: Any) -> bool:
    """Whether an event of a stream holds a part of the answer."""
    return bool(event.type == "delta")


def is_end(event: Any) -> bool:
    """Whether an event is the last of a whole stream; it holds the usage, as a response does."""
    return bool(event.type == "end")


def build_cut() -> Exception:
    """What an engine raises when a stream ended before its end."""
    error: Exception = lm15.TransportError("the answer broke off")
    return error


class _Watched:
    """What DSPy wants of a listener: the predictor whose calls of an LM are streams.

    Only on the thread that listens: DSPy cannot pass a stream on from another one.
    """

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self._thread = threading.get_ident()

    @property
    def predict(self) -> Any:
        return self._predictor if threading.get_ident() == self._thread else None


class FieldListener:
    """Hands the string fields of a program's last predictor to `put(field, text)` while its LM is speaking.

    Of several calls of that predictor the first is heard. What the program makes of it is the answer, not this.

    Attributes:
        settings: of DSPy, for the context in which the program runs.
        has_heard: whether anything has been handed on.
    """

    def __init__(self, module: Any, put: Callable[[str, str], None]) -> None:
        predictor = list_predictors(module)[-1]
        fields = predictor.signature.output_fields
        self._splitter = FieldSplitter([name for name, field in fields.items() if field.annotation is str])
        self._put = put
        self._answer: Any = None
        self._is_over = False
        self.has_heard = False
        self.settings: Mapping[str, Any] = {"send_stream": self, "stream_listeners": [_Watched(predictor)]}

    async def send(self, chunk: Any) -> None:
        """One chunk; DSPy calls it."""
        choice = chunk.choices[0]
        self._answer = self._answer or chunk.id or id(self)
        if self._is_over or (chunk.id or id(self)) != self._answer:
            return
        self._is_over = choice.finish_reason is not None
        pieces = self._splitter.push(choice.delta.content or "")
        for field, text in [*pieces, *(self._splitter.finish() if self._is_over else [])]:
            self.has_heard = True
            self._put(field, text)


def find_listener(module: Any, put: Callable[[str, str], None]) -> FieldListener | None:
    """A listener of a program; None if it has nothing to say before its end: no `aforward`, or no string field."""
    predictors = list_predictors(module)
    if not hasattr(module, "aforward") or not predictors:
        return None
    last = predictors[-1]
    has_text = any(field.annotation is str for field in last.signature.output_fields.values())
    # DSPy does not stream the evidence of decisions.
    is_decision = bool(DecisionState(last.signature, last.fields).types)
    return FieldListener(module, put) if has_text and not is_decision else None
