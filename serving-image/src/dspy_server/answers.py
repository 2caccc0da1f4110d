"""What a client gets for `/ask`: the program's outputs, or, when no LM could answer, the configured ones.

The problems of everything else are in `problems.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from dspy_server import problems
from dspy_server.answer_cache import Known
from dspy_server.call import Call
from dspy_server.contract import CacheLabel
from dspy_server.snapshot import Choice


@dataclass(frozen=True)
class Answer:
    """What a client gets, whichever way it asked.

    Attributes:
        meta: request_id, revision, track, model, cache, usage, feedback_token, degraded.
    """

    outputs: Mapping[str, Any]
    meta: Mapping[str, Any]


def build_answer(
    choice: Choice,
    call: Call,
    outputs: Mapping[str, Any],
    request_id: str,
    *,
    token: str | None,
    cache: CacheLabel = CacheLabel.MISS,
) -> Answer:
    """The program's own answer; `token` lets the client score it."""
    return _build(choice, call, outputs, request_id, token=token, is_degraded=False, cache=cache)


def build_cached(choice: Choice, known: Known, request_id: str, *, is_degraded: bool = False) -> Answer:
    """An answer given before: it used nothing, and only whoever got it first scores it."""
    call = Call(deadline=0.0, model=known.model)
    return _build(
        choice, call, known.outputs, request_id, token=None, is_degraded=is_degraded, cache=CacheLabel.HIT
    )


def build_degraded(choice: Choice, outputs: Mapping[str, Any], request_id: str) -> Answer:
    """The configured answer: nobody's to score."""
    return _build(choice, Call(deadline=0.0), outputs, request_id, token=None, is_degraded=True)


def build_response(answer: Answer) -> Response:
    """The answer as JSON: `{outputs, meta}`."""
    return build_json({"outputs": answer.outputs, "meta": answer.meta}, answer.meta["request_id"])


def build_json(value: Any, request_id: str = "") -> Response:
    """Any 200; `request_id` where an answer is looked up by it."""
    headers = {problems.REQUEST_ID_HEADER: request_id} if request_id else None
    return Response(orjson.dumps(value), 200, headers, "application/json")


def _build(
    choice: Choice,
    call: Call,
    outputs: Mapping[str, Any],
    request_id: str,
    *,
    token: str | None,
    is_degraded: bool,
    cache: CacheLabel = CacheLabel.MISS,
) -> Answer:
    meta = {
        "request_id": request_id,
        "revision": choice.route.revision,
        "track": str(choice.route.track),
        "model": call.model,
        "cache": str(cache),
        "usage": {"lm_calls": call.calls, **{f"{kind}_tokens": count for kind, count in call.usage.items()}},
        "feedback_token": token,
        "degraded": is_degraded,
    }
    return Answer(outputs, meta)
