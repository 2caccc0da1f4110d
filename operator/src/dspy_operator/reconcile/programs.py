"""Where programs and code come from: the archive first, else the user's ConfigMap, else a slot.

An artifact with a URI is not fetched here: what goes into archive and slot is where it lies, and the pods fetch it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from dspy_operator.api import names
from dspy_operator.api.names import ScoreSource
from dspy_operator.errors import Transient
from dspy_operator.manifests.archive import Content, RemoteProgram
from dspy_operator.metrics.readings import ProgramKey
from dspy_operator.reconcile.digests import Digests
from dspy_operator.reconcile.snapshot import Snapshot
from dspy_operator.rollout.judging import MetricConfig, MetricType, Reference
from dspy_operator.rollout.model import Unmeasured


class ReadsHistory(Protocol):
    """The port to what Prometheus knows of stable's past."""

    async def read_reference(
        self,
        key: ProgramKey,
        revision: str,
        metrics: Sequence[MetricConfig],
        sources: Mapping[str, str] | None = None,
    ) -> Mapping[str, Reference] | Unmeasured:
        """Per metric the last 24 h of a revision; absent where there is not enough."""


class Programs:
    """Finds bytes by digest: whatever they are called, they are checked before they are used."""

    def __init__(self, digests: Digests, history: ReadsHistory) -> None:
        self._digests = digests
        self._history = history

    async def get_content(self, snapshot: Snapshot, sha256: str) -> Content:
        """The bytes of a program, or where they lie.

        Raises:
            Transient: they are nowhere (any more).
        """
        owner, artifact = snapshot.owner, snapshot.artifact
        if artifact.uri and artifact.digest == sha256:
            return RemoteProgram(sha256, artifact.uri)
        archived = await self._digests.read_program(
            owner.namespace, names.program_name(owner.name, sha256), sha256
        )
        if archived is not None:
            return archived
        if artifact.digest == sha256:
            content = await self._digests.read_content(owner.namespace, artifact.name, artifact.key, sha256)
            if content is not None:
                return content
        for slot in (slot for slot, digest in enumerate(snapshot.slots) if digest == sha256):
            held = await self._digests.read_program(
                owner.namespace, names.slot_name(owner.name, slot), sha256
            )
            if held is not None:
                return held
        raise Transient(f"program {names.short_digest(sha256)} is in no ConfigMap any more")

    async def get_source(self, snapshot: Snapshot, digest: str) -> dict[str, str]:
        """The code of the user's ConfigMap.

        Raises:
            Transient: it is not there, or another by now.
        """
        files = await self._digests.read_files(snapshot.owner.namespace, snapshot.source.name, digest)
        if files is None:
            raise Transient(
                f"ConfigMap {snapshot.source.name} does not hold the code of this revision any more"
            )
        return files

    async def has_feedback_scores(self, snapshot: Snapshot) -> bool:
        """Whether users have scored stable lately, so that a default score metric has data."""
        stable = (snapshot.deployment.get("status") or {}).get("stable") or {}
        metric = MetricConfig("score", MetricType.SCORE, 0.05)
        key = (snapshot.owner.namespace, snapshot.owner.name)
        sources = {"score": ScoreSource.FEEDBACK.value}
        found = await self._history.read_reference(key, str(stable.get("revision", "")), [metric], sources)
        return not isinstance(found, Unmeasured) and "score" in found
