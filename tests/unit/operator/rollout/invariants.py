"""The safety rules of the rollout protocol as predicates over one pass: what was seen, decided, and is there now.

Used by the stories, by the table of events and by the random walks.
"""

from dataclasses import dataclass, field

from tests.unit.operator.rollout.world import World

from dspy_operator.api.choices import Router
from dspy_operator.api.names import Command
from dspy_operator.rollout.actions import Decision, FillSlot, RepairChildren, SetSplit
from dspy_operator.rollout.capacity import GateState, LoadState
from dspy_operator.rollout.judging import Action as Verdict
from dspy_operator.rollout.model import Observation, Order, Phase, Table
from dspy_operator.rollout.sizing import get_canary_size

FORWARD = (Phase.PREPARING, Phase.STEPPING, Phase.PROMOTING, Phase.BAKING, Phase.PROMOTED)
ADVANCING = frozenset({Verdict.ADVANCE, Verdict.PROMOTE})
PROMOTING = (Command.PROMOTE, Command.PROMOTE_FULL)
ACTING = frozenset({*PROMOTING, Command.ABORT, Command.UNDO})


@dataclass
class Watch:
    """Checks each pass of one world; remembers what a rule speaks about over time."""

    uses: set[str] = field(default_factory=set)
    """Revisions with weight in any table since the last confirmed one."""
    lowered: set[str] = field(default_factory=set)
    """Attempts (uid) that are rolling back or over."""
    acted: set[tuple[Command, str]] = field(default_factory=set)
    given: dict[tuple[Command, str], str] = field(default_factory=dict)
    """The attempt (uid) that was open when a nonce was first seen."""

    def check(self, seen: Observation, decision: Decision, before: Table | None, world: World) -> None:
        self._check_commands(seen, decision)
        self._check_records(seen, decision)
        self._check_stable(seen, decision)
        if seen.confirmation.at is not None or seen.confirmation.presumed:
            shares = before.split.shares if before else ()
            self.uses = {share.program.revision for share in shares if share.weight}
        self._check_slots(seen, decision, world)
        table = world.table
        if table is None:
            return
        self._check_shares(table, world)
        self.uses |= {share.program.revision for share in table.split.shares if share.weight}
        self._check_capacity(world)
        self._check_own_pods(decision, world)
        if isinstance(decision.action, SetSplit) and table is not before:
            self._check_raise(seen, before, table, world)

    def _check_shares(self, table: Table, world: World) -> None:
        """S1: at most two revisions, shares sum to 100, the weight is one of the plan's."""
        split = table.split
        assert sum(share.weight for share in split.shares) == 100, f"S1: {split}"
        assert len({share.slot for share in split.shares}) == len({s.program.sha256 for s in split.shares}), (
            f"S1: two programs in one slot: {split}"
        )
        assert split.weight in {0, 100, *world.plan.weights}, f"S1: weight {split.weight}"

    def _check_slots(self, seen: Observation, decision: Decision, world: World) -> None:
        """W6: no slot is overwritten while a table that pods may still use gives its program weight."""
        if not isinstance(decision.action, FillSlot):
            return
        before = seen.capacity.slots[decision.action.slot]
        used = {world.revisions[r].sha256 for r in self.uses if r in world.revisions}
        assert before == decision.action.program.sha256 or before not in used, f"W6: {before[:3]} is in use"

    def _check_capacity(self, world: World) -> None:
        """S2: what pods may be answering with has its bytes; W6: nobody overwrites them."""
        split = world.table.split if world.table else None
        for share in split.shares if split else ():
            if share.weight and share.program.revision in world.revisions and world.count_ready():
                held = world.slots[share.slot]
                assert held in {share.program.sha256, ""}, f"S2: slot {share.slot} holds {held[:3]}: {split}"

    def _check_raise(self, seen: Observation, before: Table | None, table: Table, world: World) -> None:
        """S2, S4, S5, S7: who gets more than before is ready, recorded, not rejected, not given up."""
        canary = table.split.canary
        was = before.split.weight if before and before.split.canary else 0
        same = before and before.split.canary and canary and before.split.canary.program == canary.program
        if canary is None or canary.weight <= (was if same else 0):
            return
        rollout = world.find_rollout()
        assert rollout is not None, "S4: a raise without a record"
        assert canary.program == rollout.to, "S4: a raise for another revision"
        assert rollout.uid not in self.lowered, "S7: a raise for an attempt that was given up"
        assert canary.weight <= rollout.record.weight, "S4: more than the recorded step"
        assert not world.deployment.is_rejected(canary.program.revision), (
            "S5: a raise for a rejected revision"
        )
        if rollout.has_own_pods:
            size = get_canary_size(world.ready, rollout.plan.routing, canary.weight)
            assert seen.capacity.own.reachable >= size, f"S2: {canary.weight} % onto too few pods"
            return
        load = seen.capacity.loads.get(canary.program.revision)
        is_loaded = load is not None and load.state is LoadState.LOADED
        assert is_loaded or (rollout.fast and seen.confirmation.presumed), "S2: a raise onto nothing"

    def _check_own_pods(self, decision: Decision, world: World) -> None:
        """S3: behind a gateway stable keeps all its pods; else both have at least as many as the spec asks for."""
        rollout = world.find_rollout()
        if rollout is None or not rollout.has_own_pods or not isinstance(decision.action, RepairChildren):
            return
        stable, canary = (world.pods.get(p.workload, 0) for p in (rollout.origin, rollout.to))
        if rollout.plan.routing.router is Router.GATEWAY:
            assert stable == world.ready, f"S3: {stable} pods of stable"
        assert stable + canary >= world.ready, f"S3: {stable} pods of stable and {canary} of the canary"

    def _check_records(self, seen: Observation, decision: Decision) -> None:
        """S4: forward only with a verdict or a nonce; S7: what is rolling back never comes back."""
        rollout, record = seen.rollout, decision.rollout
        if rollout is None or record is None:
            return
        was = rollout.record
        if rollout.uid in self.lowered and record.phase is not was.phase:
            assert record.phase not in FORWARD, f"S7: {was.phase} -> {record.phase}"
        if record.phase is Phase.ROLLING_BACK or record.phase.is_end:
            self.lowered.add(rollout.uid)
        if record.phase not in FORWARD or (record.phase, record.step) == (was.phase, was.step):
            return
        by_person = any(record.handled.get(c, ()) != was.handled.get(c, ()) for c in PROMOTING)
        if was.phase in {Phase.PREPARING, Phase.REGRESSION} and not rollout.fast and not by_person:
            is_gated = rollout.plan.gate_deadline is not None
            assert not is_gated or seen.gate.state is GateState.PASSED, "S4: past the gate without a verdict"
        if was.phase in {Phase.PREPARING, Phase.REGRESSION, Phase.PROMOTING} or rollout.fast:
            return
        if rollout.is_previewed and rollout.plan.preview and rollout.plan.preview.auto_promote:
            lasted = seen.now - (was.started_at or seen.now)
            assert by_person or lasted >= rollout.plan.preview.duration, "S4: the preview is cut short"
            return
        verdict = decision.verdict
        assert by_person or (verdict is not None and verdict.action in ADVANCING), (
            f"S4: {was.phase} {was.step} -> {record.phase} {record.step} without a verdict"
        )
        assert by_person or record.analysis is not None, "S4: no record of what was measured"

    def _check_stable(self, seen: Observation, decision: Decision) -> None:
        """S8: stable changes when a Promoted record closes, to its `to`; S10: a pointer goes with an end."""
        record, was, rollout = decision.deployment, seen.record, seen.rollout
        if record is None:
            return
        if was.pointer and record.pointer is None and rollout is not None:
            assert rollout.record.phase.is_end, "S10: the pointer goes before the attempt's end"
        before = was.stable.revision if was.stable else None
        after = record.stable.revision if record.stable else None
        if before is None or before == after or (was.stable and not was.stable.promoted_at):
            return
        assert after in seen.revisions, "S8: stable without a ControllerRevision"
        if rollout is None and not seen.capacity.ready_pods:
            assert not was.is_rejected(after or ""), "S5: a rejected revision becomes stable"
            return
        assert rollout is not None, "S8: stable moves without an attempt"
        assert rollout.record.phase is Phase.PROMOTED, "S8: stable moves before the end"
        assert after == rollout.to.revision, "S8: stable moves elsewhere"

    def _check_commands(self, seen: Observation, decision: Decision) -> None:
        """S14: a nonce acts at most once, and only on the attempt that was open when it was given."""
        open_now = seen.rollout.uid if seen.rollout else ""
        for order in seen.orders:
            given = self.given.setdefault((order.command, order.nonce), open_now)
            if not has_acted(order, seen, decision):
                continue
            assert (order.command, order.nonce) not in self.acted, f"S14: {order} acts again"
            self.acted.add((order.command, order.nonce))
            if decision.rollout is not None:
                assert given == open_now, f"S14: {order.command} of another attempt acts"


def has_acted(order: Order, seen: Observation, decision: Decision) -> bool:
    """Whether the decision does what the order asks for, not only remembers that it came."""
    after = decision.deployment or decision.rollout
    if after is None or order.nonce not in after.handled.get(order.command, ()):
        return False
    if decision.rollout is not None:
        return order.command in ACTING
    if order.command is Command.RETRY and decision.deployment is not None:
        return len(decision.deployment.rejected) < len(seen.record.rejected)
    opens = decision.deployment is not None and decision.deployment.pointer is not None
    return order.command is Command.UNDO and opens
