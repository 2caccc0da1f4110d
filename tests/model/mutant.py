"""What a fault made by hand is: how the shipped code is broken, and what must find it."""

from dataclasses import dataclass

from tests.model.checker import SHIPPED, Rules
from tests.model.faults import Patch
from tests.model.worlds import Check


@dataclass(frozen=True)
class Mutant:
    """`rule` is what finds it, in at most `steps` steps of the shortest run (0: by not coming to rest)."""

    name: str
    patch: Patch
    rule: str
    steps: int
    check: Check
    rules: Rules = SHIPPED

    def __str__(self) -> str:
        """The name."""
        return self.name
