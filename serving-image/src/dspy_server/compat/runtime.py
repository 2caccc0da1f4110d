"""DSPy's process-wide settings, its one LM, and a first run of it all without a provider."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import dspy
from dspy import lm15

from dspy_server.compat import prompts, quicken, waits

DSPY_VERSION: Final[str] = dspy.__version__


def configure() -> None:
    """The one `dspy.configure` of the process: lean, no history, no trace, no caches of DSPy's own."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    quicken.quicken()
    prompts.quicken_prompts()
    waits.quicken_waits()
    dspy.configure(disable_history=True, trace=None, track_usage=False)


def build_lm(
    name: str,
    engine: Any,
    async_engine: Any,
    *,
    sampling: Mapping[str, float | int],
    cached: bool = False,
) -> Any:
    """A `dspy.LM` that knows no endpoint and no key: all its calls go to our engines, or if `cached` are known."""
    return dspy.LM(name, engine=engine, async_engine=async_engine, num_retries=0, cache=cached, **sampling)


_STUB: Final = "stub/warm-up"


class StubEngine:
    """Answers every request with the one field that the warm-up's signature asks for."""

    def complete(self, request: Any) -> Any:
        """The canned answer."""
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant("[[ ## word ## ]]\nwarm\n\n[[ ## completed ## ]]"),
            finish_reason="stop",
            usage=lm15.Usage(),
        )


class AsyncStubEngine:
    """The same for `acall`."""

    async def complete(self, request: Any) -> Any:
        """The canned answer."""
        return StubEngine().complete(request)


async def warm_up(adapter: Any) -> None:
    """Run DSPy once, both ways, without an LM: what it imports at its first call must not cost a request."""
    lm = build_lm(_STUB, StubEngine(), AsyncStubEngine(), sampling={})
    predict = dspy.Predict("question -> word")
    with dspy.context(lm=lm, adapter=adapter):
        await predict.acall(question="warm")
        await asyncio.to_thread(predict, question="warm")


@contextmanager
def overrides(**settings: Any) -> Iterator[None]:
    """DSPy settings for this task only."""
    with dspy.context(**settings):
        yield
