"""Which of several operators may write: a Lease, and in it the epoch that tells an old holder's late writes apart.

Started by `__main__.py`; `reconcile/` asks `is_valid()` before each write and stamps `epoch` on it.
"""

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dspy_operator.api.names import ANNOTATION_EPOCH
from dspy_operator.errors import Conflict, OperatorError, Transient
from dspy_operator.kube.answers import rfc3339_micro
from dspy_operator.kube.client import Client, Object
from dspy_operator.kube.resources import LEASES

LOST: Final = 70
"""Exit status of a process that may no longer hold the Lease."""

logger = logging.getLogger(__name__)


def new_identity(pod_uid: str = "") -> str:
    """Who this process is: the pod's name for people, the pod's uid if known, and a part that no other process has."""
    pod = f"{os.uname().nodename}_{pod_uid}" if pod_uid else os.uname().nodename
    return f"{pod}_{uuid.uuid4().hex[:12]}"


def die_at_once() -> None:
    """End the process without a further write: an orderly shutdown would take longer than we have."""
    os._exit(LOST)


class Elector:
    """Holds the Lease, or waits for it.

    Attributes:
        epoch: integer in the Lease's annotation, raised by the write that acquires and by `raise_epoch`.

    Time is this process' monotonic clock only: the holder counts from before its last renewal was sent, the waiting
    one from when it saw the Lease change, so that the holder has ended itself before another one may begin. A holder
    of our own pod has ended for certain, as the kubelet starts a container again only after that: nobody waits for it,
    and what it still has on its way meets a higher epoch, as that of every other holder.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        pod_uid: str = "",
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
        die: Callable[[], None] = die_at_once,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make an elector; nothing is sent yet.

        Args:
            client: of the API server.
            namespace: of the Lease.
            name: of the Lease.
            identity: unique per process (`new_identity`).
            pod_uid: of the pod that this process runs in; empty outside of one. A host's name would not do: two
                processes may run on it.
            duration: seconds after which a silent holder is taken over.
            renew_deadline: seconds after which a holder that cannot renew dies.
            retry: seconds between two tries, and for one request.
            die: ends the process.
            monotonic: seconds, of the clock that never jumps.
            sleep: waits.
        """
        self.epoch = 0
        self._client = client
        self._namespace, self._name, self._identity = namespace, name, identity
        self._pod_uid = pod_uid
        self._duration, self._renew_deadline, self._retry = duration, renew_deadline, retry
        self._die, self._monotonic, self._sleep = die, monotonic, sleep
        self._valid_until = float("-inf")
        self._seen: tuple[str, float] | None = None
        self._version = ""
        self._writes = 0
        self._lock = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None

    def is_valid(self) -> bool:
        """Whether the Lease is ours for certain."""
        return self._monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Wait until the Lease is ours, then keep renewing it in the background."""
        while not await self._tried(self._try_to_acquire):
            await self._sleep(self._retry)
        logger.info("holding the Lease %s/%s, epoch %d", self._namespace, self._name, self.epoch)
        self._renewing = asyncio.create_task(self._renew_for_ever(), name="renew the Lease")

    async def raise_epoch(self, above: int = 0) -> None:
        """Make every write that is still on its way stale: after a lost answer, or when a higher stamp was met.

        Args:
            above: the stamp that was met.

        Raises:
            OperatorError: the Lease could not be written; nothing may be written before it is.
        """
        try:
            async with self._lock, asyncio.timeout(2 * self._retry):
                try:
                    await self._write(max(self.epoch, above) + 1)
                except Conflict:
                    await self._hold_on()
                    await self._write(max(self.epoch, above) + 1)
        except TimeoutError as error:
            raise Transient("the epoch could not be raised in time") from error

    async def release(self) -> None:
        """Stop renewing and let the next one begin at once."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._renewing
        self._renewing = None
        if not self.is_valid():
            return
        self._valid_until = float("-inf")
        with contextlib.suppress(OperatorError, TimeoutError):
            async with asyncio.timeout(self._retry):
                patch = {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}
                await self._merge(patch)

    async def _renew_for_ever(self) -> None:
        while True:
            await self._sleep(self._retry)
            if await self._tried(self._renew):
                continue
            if not self.is_valid():
                logger.error("the Lease could not be renewed in time: ending this process")
                self._die()
                return

    async def _tried(self, attempt: Callable[[], Awaitable[bool]]) -> bool:
        """Whether one attempt succeeded in its time; whatever went wrong, it did not."""
        try:
            async with asyncio.timeout(self._retry):
                return await attempt()
        except Exception as error:  # noqa: BLE001  a holder that cannot say why it failed has failed too
            logger.warning(
                "the Lease %s/%s: %s", self._namespace, self._name, str(error) or type(error).__name__
            )
            return False

    async def _renew(self) -> bool:
        async with self._lock:
            try:
                await self._write(self.epoch)
            except Conflict:
                await self._hold_on()
                return False
        return True

    async def _hold_on(self) -> None:
        """Somebody wrote or deleted the Lease: go on if it is still ours, die if it is another's."""
        lease = await self._client.find(LEASES, self._namespace, self._name)
        if lease is None:
            await self._create(self.epoch + 1)
        elif _holder(lease) == self._identity:
            self._version = lease["metadata"]["resourceVersion"]
            self.epoch = max(self.epoch, _epoch(lease))
        else:
            logger.error("the Lease is held by %s: ending this process", _holder(lease) or "nobody")
            self._valid_until = float("-inf")
            self._die()

    async def _try_to_acquire(self) -> bool:
        lease = await self._client.find(LEASES, self._namespace, self._name)
        if lease is None:
            await self._create(1)
            return True
        if not self._is_free(lease):
            return False
        self._version = lease["metadata"]["resourceVersion"]
        transitions = int((lease.get("spec") or {}).get("leaseTransitions") or 0) + 1
        acquired = {"acquireTime": self._now(), "leaseTransitions": transitions}
        await self._write(max(self.epoch, _epoch(lease)) + 1, acquired)
        return True

    def _is_free(self, lease: Object) -> bool:
        """Whether nobody holds it, or its holder has been silent for as long as it asked for."""
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._monotonic()
        asked = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._duration
        silent = self._monotonic() - self._seen[1]
        is_over = _holder(lease) in {"", self._identity} or self._is_predecessor(_holder(lease))
        return is_over or silent >= max(float(asked), self._duration)

    def _is_predecessor(self, holder: str) -> bool:
        """Whether it ran in our pod, before us."""
        _, _, rest = holder.partition("_")
        return bool(self._pod_uid) and rest.partition("_")[0] == self._pod_uid

    async def _write(self, epoch: int, more: dict[str, Any] | None = None) -> None:
        """Renew with this epoch; conditional on what we wrote or read last."""
        sent = self._monotonic()
        spec = self._spec() | (more or {})
        await self._merge({"metadata": {"annotations": {ANNOTATION_EPOCH: str(epoch)}}, "spec": spec})
        self._take(epoch, sent)

    async def _create(self, epoch: int) -> None:
        sent = self._monotonic()
        annotations = {ANNOTATION_EPOCH: str(epoch)}
        metadata = {"name": self._name, "namespace": self._namespace, "annotations": annotations}
        spec = self._spec() | {"acquireTime": self._now(), "leaseTransitions": 0}
        lease = await self._client.create(LEASES, {"metadata": metadata, "spec": spec})
        self._version = lease["metadata"]["resourceVersion"]
        self._take(epoch, sent)

    async def _merge(self, patch: Object) -> None:
        lease = await self._client.merge(
            LEASES, self._namespace, self._name, patch, resource_version=self._version
        )
        self._version = lease["metadata"]["resourceVersion"]

    def _take(self, epoch: int, sent: float) -> None:
        self.epoch = epoch
        self._valid_until = sent + self._renew_deadline

    def _spec(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": self._now(),
        }

    def _now(self) -> str:
        """The API server's clock, for people: nobody decides by it, but two renewals must never look the same."""
        self._writes = (self._writes + 1) % 1_000_000
        return rfc3339_micro(self._client.server_time + self._writes * 1e-6)


def _holder(lease: Object) -> str:
    return (lease.get("spec") or {}).get("holderIdentity") or ""


def _epoch(lease: Object) -> int:
    """The epoch in the annotation; 0 for what is no number."""
    text = (lease["metadata"].get("annotations") or {}).get(ANNOTATION_EPOCH, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0  # noqa: PLR2004  an int64
