"""The test of one attempt as it is kept: its state, and the record from which every verdict can be had again.

Carried by `model.Judging` and `model.RolloutRecord`; written to DSPyRollout.status.looks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from dspy_operator.rollout import judging
from dspy_operator.rollout.judging import Look, Reference, RolloutConfig, State, Verdict
from dspy_operator.rollout.judging.record import (
    BakeEntered,
    Event,
    Record,
    Resumed,
    StepEntered,
    append,
    fold,
    from_text,
    start_record,
    to_text,
)


@dataclass(frozen=True, slots=True)
class Analysis:
    """The state after every event of the record."""

    state: State
    record: Record

    @classmethod
    def start(cls, config: RolloutConfig, references: Mapping[str, Reference], t: float) -> Self:
        """A fresh test at `t`, with what is known of stable's past."""
        state = judging.start(config, references, t)
        return cls(state, start_record(state))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The test that `to_text` kept, replayed.

        Raises:
            ValueError: the text is of another version.
        """
        record = from_text(text)
        return cls(fold(record), record)

    def to_text(self) -> str:
        """One line of JSON, at most 64 KiB."""
        return to_text(self.record)

    def judge(self, look: Look) -> tuple[Self, Verdict]:
        """One look."""
        state, verdict = judging.judge(self.state, look)
        return self._after(state, look), verdict

    def judge_blind(self, t: float) -> Verdict:
        """What a deadline says when no look could be had."""
        return judging.judge_blind(self.state, t)

    def enter_step(self, step: int, t: float) -> Self:
        """The step's weight is in effect since `t`."""
        return self._after(judging.enter_step(self.state, step, t), StepEntered(step, t))

    def enter_bake(self, t: float) -> Self:
        """100 % is in effect since `t`."""
        return self._after(judging.enter_bake(self.state, t), BakeEntered(t))

    def resume(self, t: float) -> Self:
        """A pause ended at `t`."""
        return self._after(judging.resume(self.state, t), Resumed(t))

    def _after(self, state: State, event: Event) -> Self:
        return type(self)(state, append(self.record, event))
