"""Every attempt that a story leaves behind is judged again from its own record, by the code of `explain --replay`.

The same verdicts at the same looks, or the story fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspy_operator.cli.offline.replaying import build_replay

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.e2e.harness.api import Object


@dataclass
class Ledger:
    """What was replayed in this session: looks by the attempt's uid, and every difference."""

    looks: dict[str, int] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def replay(self, rollouts: Iterable[Object]) -> list[str]:
        """Judge each again; the differences of these, by the attempts' names."""
        found = [said for rollout in rollouts if (said := self._replay_one(rollout))]
        self.differences += found
        return found

    def _replay_one(self, rollout: Object) -> str:
        if not rollout.get("status", {}).get("looks"):
            return ""  # nothing was judged: it never got any traffic
        name, uid = rollout["metadata"]["name"], rollout["metadata"]["uid"]
        try:
            replayed = build_replay(rollout)
        except ValueError as error:
            return f"{name}: {error}"
        self.looks[uid] = max(self.looks.get(uid, 0), len(replayed.verdicts))
        self.decisions[uid] = max(self.decisions.get(uid, 0), len(replayed.decisions))
        return f"{name}: {replayed.difference}" if replayed.difference else ""

    def tell(self) -> str:
        """One line for the end of the session."""
        looks, decisions = sum(self.looks.values()), sum(self.decisions.values())
        return (
            f"{len(self.looks)} rollouts replayed, {looks} looks, {decisions} decisions by the judge, "
            f"{len(self.differences)} differences"
        )
