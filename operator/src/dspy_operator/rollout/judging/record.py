"""The durable record of an attempt: a checkpoint of the state and every look and entry since.

One JSON string in DSPyRollout.status.looks; a restart is a replay, so that `explain --replay` cannot disagree.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, assert_never

from dspy_operator.rollout.judging.codec import Json, decode, encode
from dspy_operator.rollout.judging.looks import NO_NUMBERS, Counts, Histogram, Look, build_rounded
from dspy_operator.rollout.judging.sequence import enter_bake, enter_step, judge, resume
from dspy_operator.rollout.judging.state import State
from dspy_operator.rollout.judging.verdicts import Verdict

VERSION = 1
LARGEST = 64 * 1024
"""Bytes of the text; beyond it the older half of the events is folded into the checkpoint."""


@dataclass(frozen=True, slots=True)
class StepEntered:
    """Step `step`'s weight is in effect since `t`."""

    step: int
    t: float


@dataclass(frozen=True, slots=True)
class BakeEntered:
    """100 % is in effect since `t`."""

    t: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """A pause ended at `t`."""

    t: float


Event: TypeAlias = Look | StepEntered | BakeEntered | Resumed


@dataclass(frozen=True, slots=True)
class Record:
    """`checkpoint` and the encoded events since, oldest first; build with `start_record` and `append`."""

    checkpoint: State
    events: tuple[str, ...] = ()
    checkpoint_size: int = 0

    @property
    def size(self) -> int:
        """Bytes of its text, at most."""
        return self.checkpoint_size + sum(len(event) + 1 for event in self.events) + 40


def start_record(state: State) -> Record:
    """A record that begins at this state."""
    return Record(state, (), len(_dump(state.to_json())))


def append(record: Record, event: Event) -> Record:
    """The record with one event more, at most 64 KiB of text."""
    grown = replace(record, events=(*record.events, _encode_event(event)))
    while grown.size > LARGEST and grown.events:
        half = (len(grown.events) + 1) // 2
        older = replace(grown, events=grown.events[:half])
        grown = replace(start_record(fold(older)), events=grown.events[half:])
    return grown


def fold(record: Record) -> State:
    """The state after every event: exactly that of the run that was recorded."""
    state = record.checkpoint
    for _, state, _ in replay(record):  # noqa: B007  the last one is wanted
        pass
    return state


def replay(record: Record) -> Iterator[tuple[Event, State, Verdict | None]]:
    """Each event, the state after it and, for a look, its verdict.

    Raises:
        ValueError: if an event is none of ours.
    """
    state = record.checkpoint
    for text in record.events:
        event = _decode_event(json.loads(text))
        verdict = None
        match event:
            case Look():
                state, verdict = judge(state, event)
            case StepEntered():
                state = enter_step(state, event.step, event.t)
            case BakeEntered():
                state = enter_bake(state, event.t)
            case Resumed():
                state = resume(state, event.t)
            case _:
                assert_never(event)
        yield event, state, verdict


def to_text(record: Record) -> str:
    """The record as one line of ASCII JSON."""
    checkpoint = _dump(record.checkpoint.to_json())
    return f'{{"version":{VERSION},"checkpoint":{checkpoint},"events":[{",".join(record.events)}]}}'


def from_text(text: str) -> Record:
    """The record that `to_text` wrote.

    Raises:
        ValueError: if the text is no record of this version.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError("this is no record of looks of a version known here")
    record = start_record(State.from_json(document["checkpoint"]))
    return replace(record, events=tuple(_dump(event) for event in document["events"]))


def _encode_event(event: Event) -> str:
    match event:
        case Look():
            return _dump(["look", *_encode_look(build_rounded(event))])
        case StepEntered():
            return _dump(["step", event.step, encode(event.t)])
        case BakeEntered():
            return _dump(["bake", encode(event.t)])
        case Resumed():
            return _dump(["resume", encode(event.t)])
        case _:
            assert_never(event)


def _decode_event(value: Any) -> Event:
    match value:
        case ["look", *rest]:
            return _decode_look(rest)
        case ["step", int() as step, t]:
            return StepEntered(step, float(t))
        case ["bake", t]:
            return BakeEntered(float(t))
        case ["resume", t]:
            return Resumed(float(t))
        case _:
            raise ValueError(f"unknown event in the record: {str(value)[:80]}")


def _encode_look(look: Look) -> list[Json]:
    metrics: dict[str, Json] = {
        name: [_encode_counts(canary), _encode_counts(stable)]
        for name, (canary, stable) in sorted(look.metrics.items())
    }
    pairs: list[Json] = [_encode_pair(look.requests), _encode_pair(look.provider_errors)]
    encoded = [encode(look.t), look.settled, encode(look.share), *pairs, metrics]
    if look.fallbacks or any(look.successes):
        encoded += [_encode_pair(look.successes), encode(look.fallbacks)]
    return encoded


def _decode_look(value: list[Any]) -> Look:
    t, settled, share, requests, provider_errors, metrics, *rest = value
    successes, fallbacks = rest or (None, 0)
    return Look(
        t=float(t),
        settled=bool(settled),
        share=float(share),
        requests=_decode_pair(requests),
        provider_errors=_decode_pair(provider_errors),
        metrics={name: (_decode_counts(arms[0]), _decode_counts(arms[1])) for name, arms in metrics.items()},
        successes=_decode_pair(successes),
        fallbacks=float(fallbacks),
    )


def _encode_counts(counts: Counts) -> Json:
    """[n, sum, sumsq, bad, over, histogram] without what is at its default at the end; null: no numbers."""
    try:
        fields: list[Json] = [encode(counts.n), encode(counts.sum), encode(counts.sumsq)]
        fields += [encode(counts.bad), encode(counts.over), encode(counts.histogram)]
    except ValueError:
        return None
    defaults: list[Json] = [0, 0, None, 0, 0, []]
    while fields and fields[-1] == defaults[len(fields) - 1]:
        fields.pop()
    return fields


def _decode_counts(value: list[Any] | None) -> Counts:
    if value is None:
        return NO_NUMBERS
    n, total, squares, bad, over, histogram = value + [0, 0, None, 0, 0, []][len(value) :]
    return Counts(
        n=float(n),
        sum=float(total),
        sumsq=None if squares is None else float(squares),
        bad=float(bad),
        over=float(over),
        histogram=decode(Histogram, histogram),
    )


def _encode_pair(pair: tuple[float, float]) -> Json:
    try:
        return None if pair == (0.0, 0.0) else encode(pair)
    except ValueError:
        return None


def _decode_pair(value: list[Any] | None) -> tuple[float, float]:
    return (0.0, 0.0) if value is None else (float(value[0]), float(value[1]))


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
