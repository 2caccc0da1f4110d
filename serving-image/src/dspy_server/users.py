"""What one user may take of this pod: requests a minute, tokens a UTC day. Others are unaffected.

The counts of this process; `shared_limits.py` asks Redis for those of all pods. A user is a pseudonym.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dspy_server import logs
from dspy_server.contract import Rejection
from dspy_server.errors import ServerError
from dspy_server.limits import Bucket

MAX_USERS: Final = 100_000
DAY: Final = 86_400
MINUTE: Final = 60.0
_WARN: Final = 0.8
"""Share of a budget at which the log says who is about to be cut off."""

_TITLES: Final = {
    Rejection.USER_RATE: "Too many requests of this user",
    Rejection.USER_BUDGET: "Today's budget is used",
}


class UserLimitError(ServerError):
    """A user has had what a user may have.

    Attributes:
        retry_after: seconds until there is more.
        title: for the client.
    """

    def __init__(self, reason: Rejection, retry_after: float, *, title: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.title = title or _TITLES[reason]


class UserLimits:
    """Rates and budgets; 0 means none. `get_pseudonym` names the user of a header's value."""

    def __init__(
        self,
        per_minute: int,
        tokens_per_day: int,
        *,
        get_pseudonym: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self.per_minute = per_minute
        self.tokens_per_day = tokens_per_day
        self._get_pseudonym = get_pseudonym
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._used: dict[str, int] = {}
        self._day = 0

    def get_user(self, header: str | None) -> str:
        """The user of a request; empty if nobody is named or nothing is limited."""
        if header is None or not (self.per_minute or self.tokens_per_day):
            return ""
        return self._get_pseudonym(header)

    def take(self, user: str) -> None:
        """Count one request.

        Raises:
            UserLimitError: too many in a minute.
        """
        if not self.per_minute or not user:
            return
        now = self._clock()
        bucket = self._buckets.pop(user, None)
        if bucket is None:
            bucket = Bucket(self.per_minute / MINUTE, self.per_minute, now)
            _make_room(self._buckets)
        self._buckets[user] = bucket
        pause = bucket.take(now)
        if pause > 0:
            raise UserLimitError(Rejection.USER_RATE, pause)

    @contextmanager
    def spend(self, user: str, estimate: int, count: Callable[[], int]) -> Iterator[None]:
        """Reserve `estimate` tokens for what happens inside, then book what `count` says was used.

        Raises:
            UserLimitError: less than that is left of today's budget.
        """
        if not self.tokens_per_day or not user:
            yield
            return
        day = self._begin_day()
        self._reserve(user, estimate)
        try:
            yield
        finally:
            if day == self._begin_day():
                self._book(user, estimate, count())

    def _begin_day(self) -> int:
        day = int(self._clock()) // DAY
        if day != self._day:
            self._day = day
            self._used.clear()
        return day

    def _reserve(self, user: str, estimate: int) -> None:
        used = self._used.get(user, 0)
        if used + estimate > self.tokens_per_day:
            raise UserLimitError(Rejection.USER_BUDGET, DAY - self._clock() % DAY)
        if user not in self._used:
            _make_room(self._used)
        self._used[user] = used + estimate

    def _book(self, user: str, estimate: int, spent: int) -> None:
        before = max(0, self._used.get(user, 0) - estimate)
        self._used[user] = before + spent
        warn_if_nearly_used(user, before, before + spent, self.tokens_per_day)


def warn_if_nearly_used(user: str, before: int, after: int, budget: int) -> None:
    """Log, once a day, who is about to be cut off."""
    if before < _WARN * budget <= after:
        logs.get_logger().warning("user_budget_nearly_used", user=user, used=after)


def _make_room(users: dict[str, int] | dict[str, Bucket]) -> None:
    """Forget who was first seen longest ago, when there are too many."""
    if len(users) >= MAX_USERS:
        del users[next(iter(users))]  # dicts keep their order
