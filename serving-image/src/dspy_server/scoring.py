"""How good clients found an answer: one vote for a signed token.

What this server scores itself is chosen in `sampling.py`.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from dspy_server import tokens
from dspy_server.contract import Drop, ScoreSource
from dspy_server.metrics import Metrics
from dspy_server.store import Store, StoreError
from dspy_server.tokens import Feedback, Keys

MAX_VOTES: Final = 100_000
VOTES_PER_USER: Final = 20
_DAY: Final = 86_400


class Vote(Enum):
    """What became of a client's feedback."""

    COUNTED = auto()
    USED = auto()
    LIMITED = auto()


@dataclass
class FeedbackBox:
    """Takes one vote a token, and twenty a day of one user: of all pods with `store`, else of this process."""

    keys: Keys
    metrics: Metrics
    clock: Callable[[], float]
    store: Store | None = None
    _votes: dict[str, int] = field(default_factory=dict)
    _by_user: dict[tuple[int, str], int] = field(default_factory=dict)

    def issue(self, revision: str, request_id: str, user: str | None) -> str:
        """The token that lets a client score this answer; `user` is the user header's value."""
        pseudonym = self.keys.get_user(user) if user else ""
        expires = int(self.clock()) + tokens.LIFETIME_SECONDS
        return tokens.sign(
            self.keys, Feedback(self.metrics.program, revision, request_id, expires, pseudonym)
        )

    async def vote(self, token: str, score: float) -> Vote:
        """Count a score in [0, 1].

        Raises:
            TokenError: the token is not ours, expired, or of another program.
        """
        now = self.clock()
        feedback = tokens.verify(self.keys, token, program=self.metrics.program, now=now)
        if not await self._is_first(feedback, now):
            return Vote.USED
        if feedback.user and not await self._has_allowance(int(now) // _DAY, feedback.user):
            self.metrics.scoring_dropped.labels(
                self.metrics.program, feedback.revision, Drop.USER_LIMIT
            ).inc()
            return Vote.LIMITED
        self.metrics.add_score(feedback.revision, ScoreSource.FEEDBACK, score)
        return Vote.COUNTED

    async def _is_first(self, feedback: Feedback, now: float) -> bool:
        """Whether this is the token's first vote; remembered here too, for when the store is lost."""
        if feedback.request_id in self._votes:
            return False
        if len(self._votes) >= MAX_VOTES:  # the oldest first: dicts keep their order
            del self._votes[next(iter(self._votes))]
        self._votes[feedback.request_id] = feedback.expires
        if self.store is None:
            return True
        key = f"dspy:v:{self.metrics.program}:{feedback.request_id}"
        try:
            return await self.store.add(key, feedback.expires - now)
        except StoreError:
            return True

    async def _has_allowance(self, day: int, user: str) -> bool:
        """Whether a user's vote is among the day's first twenty: of all pods, or those that this one has seen."""
        if (day, user) not in self._by_user and len(self._by_user) >= MAX_VOTES:
            self._by_user.clear()
        seen = self._by_user[day, user] = self._by_user.get((day, user), 0) + 1
        if self.store is not None:
            with contextlib.suppress(StoreError):
                seen = max(seen, await self.store.count(f"dspy:f:{self.metrics.program}:{user}:{day}", _DAY))
        return seen <= VOTES_PER_USER
