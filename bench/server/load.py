"""Clients: so many questions at a time, or so many a second whatever happens."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

TIMEOUT = aiohttp.ClientTimeout(total=30)
FILLER = "the courier says that it was delivered and nobody answers the telephone; "


@dataclass
class Answers:
    """What came back: seconds of each good answer, and how many had which status (0: no answer)."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    elapsed: float = 0.0

    @property
    def failed(self) -> int:
        """Everything but 200."""
        return sum(self.statuses.values()) - self.statuses[200]

    def get_percentile(self, share: float) -> float:
        """Seconds that this share of the good answers took at most."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def build_ticket(number: int, size: int = 80) -> str:
    """A question unlike any other, of about `size` characters."""
    return f"ticket {number}: {FILLER * (size // len(FILLER) + 1)}"[: max(size, 20)]


NUMBERS = itertools.count()


def ask_new(size: int = 80) -> Callable[[], str]:
    """Questions that nobody asked before."""
    return lambda: build_ticket(next(NUMBERS), size)


def ask_same() -> str:
    """A question that everybody asks."""
    return build_ticket(0)


async def ask_closed(
    url: str, build: Callable[[], str], *, clients: int, seconds: float = 0.0, requests: int = 0
) -> Answers:
    """`clients` questions at any time, for so many seconds or so many requests."""
    answers, began = Answers(), time.perf_counter()
    left = itertools.count(requests, -1)

    def goes_on() -> bool:
        return next(left) > 0 if requests else time.perf_counter() - began < seconds

    async def run(session: aiohttp.ClientSession, user: str) -> None:
        while goes_on():
            await ask_once(session, url, build(), user, answers)

    async with open_session(clients) as session:
        await asyncio.gather(*(run(session, f"user-{number}") for number in range(clients)))
    answers.elapsed = time.perf_counter() - began
    return answers


async def ask_open(url: str, build: Callable[[], str], *, rate: float, seconds: float) -> Answers:
    """`rate` questions a second, whether the earlier ones were answered or not."""
    answers, began = Answers(), time.perf_counter()
    async with open_session(0) as session, asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            group.create_task(ask_once(session, url, build(), f"user-{number % 500}", answers))
    answers.elapsed = time.perf_counter() - began
    return answers


def open_session(clients: int) -> aiohttp.ClientSession:
    """Connections that stay open."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients), timeout=TIMEOUT)


async def ask_once(
    session: aiohttp.ClientSession, url: str, ticket: str, user: str, answers: Answers
) -> None:
    """One question."""
    began = time.perf_counter()
    try:
        headers = {"X-User-Id": user}
        async with session.post(f"{url}/ask", json={"inputs": {"ticket": ticket}}, headers=headers) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        status = 0
    answers.statuses[status] += 1
    if status == 200:
        answers.seconds.append(time.perf_counter() - began)
