"""The operator, broken on purpose: each mutant is one line of the protocol left out, and a simulation must notice.

Used by `test_mutants.py`. A mutant that survives means that an invariant or a fault is missing here.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from dspy_operator.api.choices import Router
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import DSPYDEPLOYMENTS
from dspy_operator.reconcile import routing
from dspy_operator.reconcile.execute import Executor
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.rollout import attempt, decide, ending, idle, orders, protect, sizing, world
from dspy_operator.rollout.model import Observation, Phase
from dspy_operator.traffic.gateway_api import GatewayRouter

Mutant = Callable[[], AbstractContextManager[object]]


def _both(*patches: AbstractContextManager[object]) -> AbstractContextManager[object]:
    stack = ExitStack()
    for one in patches:
        stack.enter_context(one)
    return stack


def _without(rule: Callable[..., Any]) -> AbstractContextManager[object]:
    """The list of rules without one."""
    return _both(
        patch.object(decide, "OPEN", tuple(one for one in decide.OPEN if one is not rule)),
        patch.object(decide, "IDLE", tuple(one for one in decide.IDLE if one is not rule)),
    )


def effect_before_record() -> AbstractContextManager[object]:
    """W2: the table is written first, the record after it."""
    real = Reconciler._act

    async def act(self: Any, seen: Any, decision: Any, snapshot: Any, memory: Any, given: Any) -> None:
        if decision.action is not None:
            await self._parts.executor.execute(decision.action, seen, snapshot, memory, given)
        await real(self, seen, replace(decision, action=None), snapshot, memory, given)

    return patch.object(Reconciler, "_act", act)


def unbound_apply() -> AbstractContextManager[object]:
    """W7: an apply that forgets which version was read."""
    real = Client._apply

    async def apply(self: Any, resource: Any, obj: Any, uid: str, version: str) -> Any:
        return await real(self, resource, obj, uid, "")

    return patch.object(Client, "_apply", apply)


def unready_raise() -> AbstractContextManager[object]:
    """W4: traffic for a program that no pod has loaded."""

    def ready(seen: Observation) -> bool:
        return seen.rollout is not None

    return _both(*(patch.object(module, "is_canary_ready", ready) for module in (world, attempt, protect)))


def rejected_again() -> AbstractContextManager[object]:
    """1.3: a rejected revision is tried again without `retry`."""
    return _without(idle.the_spec_is_rejected)


def no_data_is_good() -> AbstractContextManager[object]:
    """S16: what cannot be measured counts as passed."""
    real = attempt.the_gate_is_open

    def gate(seen: Observation) -> Any:
        rollout = seen.rollout
        if rollout is None or rollout.record.phase is not Phase.STEPPING or seen.judging.verdict:
            return real(seen)
        if rollout.record.effective_at is None:
            return real(seen)
        return attempt.build_advance(seen, rollout.record.step + 1, "Nothing is known against it")

    return patch.object(decide, "OPEN", tuple(gate if one is real else one for one in decide.OPEN))


def forgotten_nonce() -> AbstractContextManager[object]:
    """W3: a command acts and is not noted in the same write."""

    def build(handled: Any, given: Any) -> Any:
        return handled

    return _both(*(patch.object(module, "build_handled", build) for module in (orders, ending, attempt)))


def blind_to_edits() -> AbstractContextManager[object]:
    """1.4: an attempt goes on although the spec asks for something else."""
    return _without(protect.the_spec_moved_on)


def untold_pods() -> AbstractContextManager[object]:
    """1.1: the pods are never told of a new table."""

    async def refresh(self: Any, snapshot: Any, memory: Any, given: Any, generation: int) -> None:
        memory.refreshing.note(generation, given.now)

    return patch.object(Executor, "_refresh_pods", refresh)


def deaf_operator() -> AbstractContextManager[object]:
    """Events are ignored; only the slow resync is left."""

    def note(self: Any, key: Any, version: Any = None) -> None:
        if self._remember(key).snapshot is None:
            self._parts.worklist.add(key)

    return patch.object(Reconciler, "note", note)


def slot_in_use() -> AbstractContextManager[object]:
    """W6: a slot is overwritten although pods may still read it."""
    return patch.object(world, "find_slot", lambda seen, program, avoid=None: 0)


def early_stable() -> AbstractContextManager[object]:
    """S8: whatever the end, the canary becomes stable."""
    real = ending._close

    def close(seen: Observation, rollout: Any) -> Any:
        return real(seen, replace(rollout, record=replace(rollout.record, phase=Phase.PROMOTED)))

    return patch.object(ending, "_close", close)


def hasty_close() -> AbstractContextManager[object]:
    """S10: the pointer goes as soon as the rollback is recorded."""
    real = ending.the_attempt_is_over

    def over(seen: Observation) -> Any:
        rollout = seen.rollout
        if rollout is not None and rollout.record.phase is Phase.ROLLING_BACK:
            ended = replace(rollout, record=replace(rollout.record, phase=Phase.ROLLED_BACK))
            return real(replace(seen, rollout=ended))
        return real(seen)

    return patch.object(decide, "OPEN", tuple(over if one is real else one for one in decide.OPEN))


def deaf_to_deletion() -> AbstractContextManager[object]:
    """W10: a resource that is being deleted is worked on as if it were not."""
    real = Client.find

    async def find(self: Any, resource: Any, namespace: str, name: str, **rest: Any) -> Any:
        found = await real(self, resource, namespace, name, **rest)
        if resource is DSPYDEPLOYMENTS and found is not None:
            meta = {key: value for key, value in found["metadata"].items() if key != "deletionTimestamp"}
            return {**found, "metadata": meta}
        return found

    return patch.object(Client, "find", find)


def lost_for_ever() -> AbstractContextManager[object]:
    """1.1: nobody writes stable's ControllerRevision again."""
    return _without(idle.stable_revision_is_not_recorded)


def shrinking_stable() -> AbstractContextManager[object]:
    """S3: behind a gateway too stable has only the pods that its share needs."""
    real = sizing.get_stable_size

    def size(replicas: int, routing: Any, weight: int) -> int:
        return real(replicas, replace(routing, router=Router.REPLICAS), weight)

    return patch.object(sizing, "get_stable_size", size)


def early_shrinking() -> AbstractContextManager[object]:
    """S3: stable shrinks when the record says so, and not when the canary's pods have taken over."""
    real = sizing.find_sizes

    def sizes(replicas: int, rollout: Any, split: Any) -> dict[str, int]:
        found = real(replicas, rollout, split)
        weight = rollout.record.weight
        return found | {rollout.origin.workload: replicas - min(replicas - 1, replicas * weight // 100)}

    return patch.object(routing, "find_sizes", sizes)


def hasty_route() -> AbstractContextManager[object]:
    """S6: the route goes back to the Service of stable before that has taken over the pods."""
    return patch.object(GatewayRouter, "_describe_wait", lambda *_: "")


def hasty_removal() -> AbstractContextManager[object]:
    """W6: pods go before it is confirmed that nothing is sent to them."""
    return patch.object(idle, "is_settled", lambda _: True)


def generous_route() -> AbstractContextManager[object]:
    """S4: whatever share the canary has in the table, the route gives it everything."""
    real = GatewayRouter._get_weights

    def weights(self: Any, view: Any, split: Any) -> Any:
        found = real(self, view, split)
        return replace(found, stable=0, canary=100) if found.canary else found

    return patch.object(GatewayRouter, "_get_weights", weights)


def pods_for_ever() -> AbstractContextManager[object]:
    """L1: the pods of an attempt that is over never go."""
    return _without(idle.a_workload_is_unused)


MUTANTS: dict[str, tuple[Mutant, tuple[str, ...]]] = {
    "the effect comes before the record": (effect_before_record, ("S4",)),
    "an apply is bound to no version": (unbound_apply, ("S9",)),
    "a canary gets traffic before it is loaded": (unready_raise, ("S2",)),
    "a rejected revision is tried again": (rejected_again, ("S5",)),
    "no data is good": (no_data_is_good, ("S4",)),
    "a nonce is not noted": (forgotten_nonce, ("S14", "L1")),
    "an edit is not seen": (blind_to_edits, ("S15",)),
    "pods are not told": (untold_pods, ("L1",)),
    "events are ignored": (deaf_operator, ("L1",)),
    "a slot in use is overwritten": (slot_in_use, ("W6", "S1", "L1")),
    "every end makes the canary stable": (early_stable, ("S8",)),
    "the pointer goes too early": (hasty_close, ("S10",)),
    "a deletion is not seen": (deaf_to_deletion, ("S10",)),
    "a lost ControllerRevision stays lost": (lost_for_ever, ("L1",)),
    "stable shrinks behind a gateway": (shrinking_stable, ("S3",)),
    "stable shrinks before the canary has grown": (early_shrinking, ("S3",)),
    "the route does not wait for the Service of stable": (hasty_route, ("S6",)),
    "pods go while requests reach them": (hasty_removal, ("W6",)),
    "the route gives more than the record": (generous_route, ("S4",)),
    "pods that nothing needs stay": (pods_for_ever, ("L1",)),
}
"""Each with the invariants of which one falls."""
