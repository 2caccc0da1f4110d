"""Programs whose steps nest: modules in modules, a tool, LM calls at the same time, a thread, a late step."""

import asyncio
import time
from typing import Any

import dspy
from opentelemetry import trace
from tests.unit.serving.programs import RouteTicket


def count_words(text: str) -> int:
    return len(text.split())


COUNT = dspy.Tool(count_words, name="count_words")


class Inner(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        return self.route(ticket=ticket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        return await self.route.acall(ticket=ticket)


class Nested(dspy.Module):
    """Two inner modules at once, then a tool."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    async def aforward(self, ticket: str) -> dspy.Prediction:
        first, _ = await asyncio.gather(self.inner.acall(ticket=ticket), self.inner.acall(ticket=ticket))
        await COUNT.acall(text=ticket)
        return first


class SyncNested(dspy.Module):
    """The same one after the other, in a worker thread."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, ticket: str) -> dspy.Prediction:
        first = self.inner(ticket=ticket)
        self.inner(ticket=ticket)
        COUNT(text=ticket)
        return first


class Odd(Nested):
    """Says things to the current span that no collector likes; leaves a step behind that ends after the request."""

    async def aforward(self, ticket: str) -> dspy.Prediction:
        span = trace.get_current_span()
        span.set_attribute("user.nan", float("nan"))
        span.set_attribute("user.long", "x" * 100_000)
        span.set_attribute("user.text", "call 13800138000")
        span.set_status(trace.StatusCode.ERROR, "call 13800138000")
        for index in range(200):
            span.set_attribute(f"user.{index}", index)
        if "late" in ticket:
            self.late = asyncio.create_task(Late().acall())
            await asyncio.sleep(0)
        if "explode" in ticket:
            raise ValueError(ticket)
        return await super().aforward(ticket)


class Late(dspy.Module):
    async def aforward(self) -> Any:
        await asyncio.sleep(0.5)
        return dspy.Prediction()


class Timed(dspy.Module):
    """Waits as long as it is told, in an inner module, and says how long that took."""

    async def aforward(self, seconds: float) -> dspy.Prediction:
        started = time.perf_counter()
        await asyncio.sleep(seconds)
        return dspy.Prediction(took=time.perf_counter() - started)


class TimedTwice(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.timed = Timed()

    async def aforward(self, seconds: float) -> dspy.Prediction:
        return await self.timed.acall(seconds=seconds)
