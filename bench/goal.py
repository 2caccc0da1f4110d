"""What a measured figure is held to; a busy machine may miss it by a fifth.

Of `bench.operator` and `bench.server`; what `bench.decisions` counts does not depend on the machine.
"""

from dataclasses import dataclass
from typing import Final

SLACK: Final = 1.2


@dataclass(frozen=True)
class Goal:
    """One figure, its limit, and whether it must be below (or above) it."""

    name: str
    value: float
    limit: float
    above: bool = False

    @property
    def is_met(self) -> bool:
        """With slack."""
        return self.value * SLACK >= self.limit if self.above else self.value <= self.limit * SLACK

    @property
    def verdict(self) -> str:
        """In a word or three."""
        exact = self.value >= self.limit if self.above else self.value <= self.limit
        return "met" if exact else "met with slack" if self.is_met else "MISSED"
