"""The runs of the regression gate in the tiny world: Jobs that ask examples for a while and then say something."""

from dataclasses import dataclass, field

from dspy_operator.api.names import gate_name
from dspy_operator.rollout.capacity import Gate, GateState
from dspy_operator.rollout.gate import FIRST_ATTEMPT
from dspy_operator.rollout.model import DeploymentRecord, Program, Rollout

LASTS = 20.0
"""Seconds of a run."""
PASSED = (GateState.PASSED, "drop 0.1% of at most 2.0%, p 0.4800, on 200 examples")


@dataclass
class Runs:
    """`says` by revision: what each run says, the last one again and again. `jobs`: when each began, by name."""

    says: dict[str, tuple[tuple[GateState, str], ...]] = field(default_factory=dict)
    jobs: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def start(self, program: Program, attempt: int, now: float) -> None:
        """A Job is created."""
        name = gate_name("triage", program.revision, attempt)
        assert name not in self.jobs, f"{name} exists"
        self.jobs[name] = now
        self.count[name] = self.count.get(name, 0) + 1

    def observe(
        self, now: float, record: DeploymentRecord, rollout: Rollout | None, target: Program | None
    ) -> Gate:
        """What `reconcile/gates.py` would see."""
        name, revision = "", ""
        if rollout is not None and record.pointer is not None:
            revision = rollout.to.revision
            name = gate_name("triage", revision, record.pointer.attempt)
        elif target is not None and not (record.stable and record.stable.promoted_at):
            revision = target.revision
            name = gate_name("triage", revision, FIRST_ATTEMPT)
        left = tuple(job for job, began in self.jobs.items() if job != name and now < began + LASTS)
        if name not in self.jobs:
            return Gate(left=left)
        end = self.jobs[name] + LASTS
        if now < end:
            return Gate(GateState.RUNNING, name, left=left)
        said = self.says.get(revision, (PASSED,))
        state, message = said[min(self.count[name], len(said)) - 1]
        return Gate(state, name, message, end if state is GateState.NO_VERDICT else None, left)
