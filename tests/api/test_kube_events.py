"""The event recorder against a real API server."""

import uuid
from typing import Any

import pytest

from dspy_operator.kube.client import Client
from dspy_operator.kube.events import EventRecorder
from dspy_operator.kube.resources import CONFIGMAPS, EVENTS

pytestmark = pytest.mark.api

NAMESPACE = "default"


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
async def thing(client: Client) -> dict[str, Any]:
    name = f"thing-{uuid.uuid4().hex[:8]}"
    return await client.create(CONFIGMAPS, {"metadata": {"name": name, "namespace": NAMESPACE}})


async def list_events(client: Client, thing: dict[str, Any]) -> list[dict[str, Any]]:
    events = await client.list_(EVENTS, NAMESPACE)
    mine = [event for event in events if event["regarding"]["uid"] == thing["metadata"]["uid"]]
    return sorted(mine, key=lambda event: event["reason"])


def build(client: Client, clock: Clock) -> EventRecorder:
    return EventRecorder(client, "operator-0", monotonic=clock.monotonic)


async def test_an_event_says_what_happened_to_whom(client: Client, thing: dict[str, Any]) -> None:
    recorder = build(client, Clock())
    recorder.record(thing, "Warning", "RolledBack", "score 12 % lower on 120 samples")
    await recorder.drain()
    (event,) = await list_events(client, thing)
    assert (event["type"], event["reason"], event["note"]) == (
        "Warning",
        "RolledBack",
        "score 12 % lower on 120 samples",
    )
    assert event["regarding"]["kind"] == "ConfigMap"
    assert event["reportingController"] == "dspy-operator.io/operator"
    assert event.get("series") is None


async def test_a_repeat_is_counted_and_not_repeated(client: Client, thing: dict[str, Any]) -> None:
    recorder = build(client, Clock())
    for _ in range(3):
        recorder.record(thing, "Normal", "StepAdvanced", "50 %")
        await recorder.drain()
    (event,) = await list_events(client, thing)
    assert event["series"]["count"] == 3


async def test_a_repeat_after_a_restart_is_counted_too(client: Client, thing: dict[str, Any]) -> None:
    for _ in range(2):
        recorder = build(client, Clock())
        recorder.record(thing, "Normal", "StepAdvanced", "50 %")
        await recorder.drain()
    (event,) = await list_events(client, thing)
    assert event["series"]["count"] == 2


async def test_other_notes_and_reasons_are_other_events(client: Client, thing: dict[str, Any]) -> None:
    recorder = build(client, Clock())
    recorder.record(thing, "Normal", "StepAdvanced", "10 %")
    recorder.record(thing, "Normal", "StepAdvanced", "50 %")
    recorder.record(thing, "Normal", "Promoted", "50 %")
    await recorder.drain()
    assert len(await list_events(client, thing)) == 3


async def test_one_object_has_at_most_one_event_a_second(client: Client, thing: dict[str, Any]) -> None:
    clock = Clock()
    recorder = build(client, clock)
    for index in range(3):
        recorder.record(thing, "Normal", f"Reason{index}", "note")
    assert await recorder._write_due(clock.now) == pytest.approx(1.0)
    assert [event["reason"] for event in await list_events(client, thing)] == ["Reason0"]
    clock.now += 1.0
    await recorder._write_due(clock.now)
    clock.now += 1.0
    assert await recorder._write_due(clock.now) is None
    assert len(await list_events(client, thing)) == 3


async def test_an_event_that_cannot_be_written_is_dropped_and_the_next_one_is_not(
    client: Client, thing: dict[str, Any]
) -> None:
    recorder = build(client, Clock())
    nowhere = {**thing, "metadata": {**thing["metadata"], "namespace": "no-such-namespace", "uid": "other"}}
    recorder.record(nowhere, "Normal", "Lost", "note")
    recorder.record(thing, "Neither", "Refused", "note")
    recorder.record(thing, "Normal", "Kept", "x" * 5000)
    await recorder.drain()
    (event,) = await list_events(client, thing)
    assert event["reason"] == "Kept"
    assert len(event["note"]) == 1024


async def test_what_waits_is_bounded(client: Client, thing: dict[str, Any]) -> None:
    recorder = build(client, Clock())
    for index in range(5000):
        recorder.record(thing, "Normal", "Many", f"note {index}")
    assert len(recorder._waiting) == 1000
