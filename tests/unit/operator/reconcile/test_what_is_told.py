"""A pass that another one follows at once tells people nothing: then the next has to, also if nothing else is to do."""

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.unit.operator.reconcile.objects import build_given, build_snapshot

from dspy_operator.reconcile import reconciler as module
from dspy_operator.reconcile.memory import Memory
from dspy_operator.reconcile.parts import Timing
from dspy_operator.reconcile.reconciler import Reconciler
from dspy_operator.rollout.actions import Decision, Restamp
from dspy_operator.rollout.capacity import Capacity, Own
from dspy_operator.rollout.model import Confirmation, Observation

if TYPE_CHECKING:
    from dspy_operator.reconcile.parts import Parts

SEEN = Observation(now=0.0, epoch=1, name="triage")


@pytest.mark.parametrize(
    ("decision", "shown"),
    [
        (Decision("AwaitingPromotion", "waits", wait=0), ""),
        (Decision("AwaitingPromotion", "waits", action=Restamp(), wait=3), ""),
        (Decision("AwaitingPromotion", "waits"), "AwaitingPromotion"),
    ],
)
async def test_a_reason_counts_as_shown_once_it_was(
    monkeypatch: pytest.MonkeyPatch, decision: Decision, shown: str
) -> None:
    told: list[str] = []

    async def note(*_: Any) -> bool:
        return False

    async def show(*_: Any) -> bool:
        told.append(str(decision.reason))
        return True

    actor = SimpleNamespace(record=note, execute=note, show=show)
    parts = SimpleNamespace(
        recorder=actor, executor=actor, reporter=SimpleNamespace(report=lambda *_: None, time_pass=None)
    )
    reconciler = Reconciler(cast("Parts", parts), Timing(), "image")
    monkeypatch.setattr(module, "build_observation", lambda *_: SEEN)
    monkeypatch.setattr(module, "decide", lambda _: decision)
    for name, value in (("_build_given", build_given()), ("_follow", None), ("_find_wait", 0.0)):
        monkeypatch.setattr(reconciler, name, lambda *_, value=value: value)
    memory = Memory(shown_reason="Previewing")
    await reconciler._observe_and_act(("ml", "triage"), memory, build_snapshot())
    assert (memory.shown_reason, told) == (shown, [shown] if shown else [])


@pytest.mark.parametrize(
    ("seen", "waits"),
    [
        (SEEN, False),
        (replace(SEEN, confirmation=Confirmation(message="Gateway public has said nothing of it")), True),
        (replace(SEEN, capacity=Capacity(own=Own(ready=2, reachable=0))), True),
        (replace(SEEN, capacity=Capacity(own=Own(ready=2, reachable=2))), False),
    ],
)
def test_what_routes_is_read_anew_while_it_is_waited_for_as_it_may_not_be_watched(
    seen: Observation, *, waits: bool
) -> None:
    assert module._waits_unseen(seen, Decision("WeightNotEffective", "waits", wait=3)) is waits
