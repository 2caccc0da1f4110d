"""The operator's own client on the simulated API server: everything of the real one but the wire.

Called by the operator under test. Faults happen here: `Faults` says of each call what becomes of it.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from tests.simulation.answers import Answer
from tests.simulation.store import Object, Store

from dspy_operator.errors import LostAnswer, Transient
from dspy_operator.kube.answers import error_of
from dspy_operator.kube.client import Call, Client
from dspy_operator.kube.resources import DSPYDEPLOYMENTS

GONE = "gone"
"""The basis of who has read that the resource is being deleted, or is no more."""
DAWN = 1_800_000_000.0
"""The API server's time when the virtual clock stands at 0, seconds since 1970."""


class Network(Protocol):
    """What happens to a call between client and server."""

    def is_clear(self) -> bool:
        """Whether nothing can happen to it: then nobody needs to ask."""

    async def send(self, call: Call, deliver: Callable[[], Answer]) -> Answer:
        """The answer; or `TimeoutError` when none comes, `ConnectionError` when the server is not reached."""


class SimClient(Client):
    """`who` is the process; `basis` the digest of the program that the spec asked for when it was read last."""

    def __init__(self, store: Store, who: str, network: Network) -> None:
        self.server_time = 0.0
        self.store = store
        self.who = who
        self.network = network
        self.basis = ""

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _call(self, call: Call) -> Object | None:
        basis = self.basis
        try:
            if self.network.is_clear():
                answer = self.store.handle(call, self.who, basis)
            else:
                answer = await self.network.send(call, lambda: self.store.handle(call, self.who, basis))
        except ConnectionError as error:
            raise Transient(f"{call.what}: cannot reach the API server") from error
        except TimeoutError as error:
            kind = LostAnswer if call.mutating else Transient
            raise kind(f"{call.what}: no answer") from error
        self.server_time = max(self.server_time, math.floor(self.store.now()))
        if call.resource is DSPYDEPLOYMENTS and call.verb == "get":
            self.basis = _find_basis(answer) or basis
        if answer.status < 400:
            return answer.body
        if answer.status == 404 and call.verb in {"get", "delete"}:
            return None
        raise error_of(
            answer.status, answer.body, call.what, mutating=call.mutating, retry_after=answer.retry_after
        )


def _find_basis(answer: Answer) -> str:
    """What a reading of the resource says; empty if it failed."""
    if answer.status == 404:
        return GONE
    if answer.status >= 400:
        return ""
    is_going = answer.body["metadata"].get("deletionTimestamp")
    return GONE if is_going else str(answer.body["spec"]["program"]["artifact"]["sha256"])
