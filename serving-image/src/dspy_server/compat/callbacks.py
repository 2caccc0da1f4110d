"""DSPy's callbacks as begin and end of a step, told apart by its call id: steps nest, and many run at once.

`journal.py` listens. What it is given are the live objects of the program: to be read at once, never changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback


class StepKind(StrEnum):
    """What a step of a program is."""

    MODULE = "module"
    LM = "lm"
    TOOL = "tool"


@dataclass(frozen=True)
class Step:
    """One step that begins.

    Attributes:
        parent: call id of the step around it; None if it is the program itself.
        inputs: its arguments, alive.
    """

    kind: StepKind
    name: str
    parent: str | None
    inputs: Mapping[str, Any]


class Listener(Protocol):
    """Who wants to know of a program's steps; called from its threads too."""

    def begin(self, call_id: str, step: Step) -> None:
        """A step begins."""

    def end(self, call_id: str, outputs: Any, error: BaseException | None) -> None:
        """It has ended; `outputs` are alive."""


class _Watch(BaseCallback):  # type: ignore[misc]  # dspy has no types
    """One request's; DSPy turns what it raises into a warning."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def _begin(self, kind: StepKind, name: str, call_id: str, inputs: Mapping[str, Any]) -> None:
        self._listener.begin(call_id, Step(kind, name, ACTIVE_CALL_ID.get(), inputs))

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._begin(StepKind.MODULE, _get_module_name(instance), call_id, inputs)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._begin(StepKind.LM, str(instance.model), call_id, inputs)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._begin(StepKind.TOOL, str(instance.name), call_id, inputs)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self._listener.end(call_id, outputs, exception)

    on_lm_end = on_module_end
    on_tool_end = on_module_end


_MAX_SIGNATURE: Final = 80


def _get_module_name(module: Any) -> str:
    """The class of a module; with a signature also its fields: that of a loaded one has lost its name."""
    signature = getattr(getattr(module, "signature", None), "signature", None)
    name = type(module).__name__
    return f"{name}({signature[:_MAX_SIGNATURE]})" if isinstance(signature, str) else name


def watch(listener: Listener) -> list[Any]:
    """The value of DSPy's setting `callbacks` that tells `listener` too."""
    return [*dspy.settings.get("callbacks", []), _Watch(listener)]
