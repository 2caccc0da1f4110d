"""What is decided: at most one record and one action, each a value of its own.

Built by the rules of `decide`; `reconcile/record.py` writes the record, `reconcile/execute.py` carries out the action.
"""

from dataclasses import dataclass

from dspy_operator.api.reasons import Reason
from dspy_operator.rollout.analysis import Analysis
from dspy_operator.rollout.judging import Verdict
from dspy_operator.rollout.model import DeploymentRecord, Program, RolloutRecord, Split


@dataclass(frozen=True)
class CreateRevision:
    """V: write down what a revision is, before anything refers to it."""

    program: Program


@dataclass(frozen=True)
class CreateRollout:
    """R: the first half of an opening; the pointer follows in the next pass."""

    to: Program
    origin: Program
    attempt: int
    fast: bool


@dataclass(frozen=True)
class DeleteRollout:
    """Remove an attempt that never began and does not fit what is wanted now."""

    name: str


@dataclass(frozen=True)
class Archive:
    """Keep an immutable copy of a program's bytes."""

    program: Program


@dataclass(frozen=True)
class FillSlot:
    """C: put a program's bytes where the pods read them. Only into a slot that no table in use names."""

    slot: int
    program: Program


@dataclass(frozen=True)
class SetSplit:
    """T: the whole routing table, in one write, then tell the pods."""

    split: Split
    rollout: str
    number: int


@dataclass(frozen=True)
class RefreshPods:
    """Tell the pods again that the table has changed."""


@dataclass(frozen=True)
class RepairChildren:
    """Create what is missing and revert what was edited: Deployment, Service, budget, source copy."""


@dataclass(frozen=True)
class RemoveWorkload:
    """Delete the Deployment of a workload that nothing uses any more."""

    workload: str


@dataclass(frozen=True)
class Restamp:
    """Under a new epoch: stamp R and T, so that every older write in flight dies on its resourceVersion."""


@dataclass(frozen=True)
class Prune:
    """Delete what nobody will ask for again: names of attempts and ConfigMaps, hashes of revisions."""

    rollouts: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()
    revisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunGate:
    """The Job that compares a program with stable, or measures the first one; `attempt` is in its name."""

    program: Program
    attempt: int


@dataclass(frozen=True)
class RemoveGate:
    """Delete a Job of the gate and its pods."""

    job: str


Action = (
    CreateRevision
    | CreateRollout
    | DeleteRollout
    | Archive
    | FillSlot
    | SetSplit
    | RefreshPods
    | RepairChildren
    | RemoveWorkload
    | Restamp
    | Prune
    | RunGate
    | RemoveGate
)


@dataclass(frozen=True)
class Notice:
    """An Event for people; `warning` for what somebody should look at."""

    reason: Reason | str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Decision:
    """At most one record, then at most one effect, and what people read meanwhile.

    `wait` is when to look again without any event, in seconds; None: an event or the slow resync will do.
    `analysis` and `verdict` are the test's after this pass; `analysis` alone is written only when a checkpoint is due.
    """

    reason: Reason | str
    message: str
    deployment: DeploymentRecord | None = None
    rollout: RolloutRecord | None = None
    action: Action | None = None
    wait: float | None = None
    notices: tuple[Notice, ...] = ()
    analysis: Analysis | None = None
    verdict: Verdict | None = None

    @property
    def is_written(self) -> bool:
        """Whether it changes anything but what people read."""
        return self.action is not None or self.deployment is not None or self.rollout is not None

    @property
    def is_told(self) -> bool:
        """Whether people are shown it: not if another pass follows at once."""
        return self.wait != 0 and self.action is None
