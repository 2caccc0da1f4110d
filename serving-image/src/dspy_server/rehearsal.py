"""A program's first question, asked by the server itself before it serves (`serving.warmup: Live`).

Connections to the models are open and the provider knows the prompt's prefix before the first user comes. It is never a
reason to refuse a program: an outage of a model is no fault of its.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

from dspy_server import compat, logs, schema
from dspy_server.call import asking, classify, open_call
from dspy_server.program import Program

WORD: Final = "warm-up"


@dataclass(frozen=True)
class Rehearsal:
    """What a program is asked with; `timeout`, in seconds, is that of a request."""

    lm: Any
    adapter: Any
    workers: Executor
    timeout: float

    async def run(self, program: Program) -> None:
        """Ask one question, the first demonstration's if there is one; no revision pays for it or is judged by it."""
        inputs = find_question(program)
        log = logs.get_logger().bind(revision=program.revision)
        if inputs is None:
            log.info("not_rehearsed", reason="no demonstration has all inputs, and they are not all text")
            return
        call = open_call(self.timeout)
        try:
            async with asking(call, lm=self.lm, adapter=self.adapter):
                await program.answer(inputs, self.workers)
        except Exception as exc:  # noqa: BLE001 - user code and models: whatever they raise, the program may serve
            log.warning("rehearsal_failed", error=type(exc).__name__, error_class=classify(exc, call))
        else:
            log.info("rehearsed", model=call.model, lm_calls=call.calls)
        finally:
            call.abandon()


def find_question(program: Program) -> Mapping[str, Any] | None:
    """Inputs that the program takes: a demonstration's, else a word in each field; None if neither fits."""
    names = program.inputs.list_required()
    for candidate in (*compat.list_demo_inputs(program.module, names), dict.fromkeys(names, WORD)):
        try:
            return program.inputs.parse(candidate)
        except schema.InputError:
            continue
    return None
