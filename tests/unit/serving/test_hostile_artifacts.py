"""Whatever an artifact holds: it is refused, or its program asks our engine and nobody else."""

import copy
import dataclasses
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.serving.programs import SyncTriage
from tests.unit.serving.worlds import build_demos, dump_program, get_stub_adapter

from dspy_server import compat
from dspy_server.artifact import get_digest
from dspy_server.errors import LoadError
from dspy_server.program import load_program

DECOY = "http://127.0.0.1:9/decoy"
HOSTILE = st.sampled_from(
    [
        DECOY,
        {"model": "openai/decoy", "api_base": DECOY, "api_key": "sk-decoy"},
        {"api_base": DECOY},
        {"engine": "litellm", "headers": {"x": DECOY}},
        {"__class__": "os.system", "__reduce__": ["os.system", ["true"]]},
        [{"ticket": "t", "queue": "billing", "api_base": DECOY}],
        "[[ ## completed ## ]]",
    ]
)
NAMES = st.sampled_from(
    [
        "lm",
        "api_base",
        "engine",
        "adapter",
        "callbacks",
        "config",
        "extra",
        "_lm",
        "signature",
        "demos",
        "tools",
    ]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = HOSTILE | st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def list_places(value: Any) -> list[tuple[Any, Any]]:
    """Each container with each of its keys or indices."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in list_places(value[key])]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    program = SyncTriage()
    program.route.demos = build_demos("billing", 2)
    state: dict[str, Any] = json.loads(dump_program(program, tmp_path_factory.mktemp("artifact")))
    return state


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who tried to connect anywhere."""
    tried: list[Any] = []

    def refuse(*args: Any, **_: Any) -> None:
        tried.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


class OurEngine:
    """Answers, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def complete(self, request: Any) -> Any:
        self.calls += 1
        answer = compat.StubEngine().complete(request)
        message = type(answer.message).assistant("[[ ## queue ## ]]\nbilling\n\n[[ ## completed ## ]]")
        return dataclasses.replace(answer, message=message)


def ask(module: Any) -> int:
    """Ask a program; how often our engine was asked."""
    engine = OurEngine()
    lm = compat.build_lm("served/ours", engine, compat.AsyncStubEngine(), sampling={})
    with compat.overrides(lm=lm, adapter=get_stub_adapter()):
        module(ticket="hello")
    return engine.calls


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_an_accepted_artifact_asks_our_engine_and_nobody_else(
    data: st.DataObject, original: dict[str, Any], no_sockets: list[Any]
) -> None:
    state = copy.deepcopy(original)
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(list_places(state)))
        if isinstance(container, dict) and data.draw(st.booleans()):
            key = data.draw(NAMES)
        container[key] = copy.deepcopy(data.draw(VALUES))
    if isinstance(state.get("route"), dict) and data.draw(st.booleans()):
        state["route"]["lm"] = copy.deepcopy(data.draw(HOSTILE))
    raw = json.dumps(state).encode()
    try:
        program = load_program(
            raw,
            revision="r",
            sha256=get_digest(raw),
            module="tests.unit.serving.programs:SyncTriage",
            adapter=get_stub_adapter(),
        )
    except LoadError:
        return
    assert ask(program.module) == 1
    assert program.module.route.lm is None
    assert no_sockets == []


def test_without_the_check_an_embedded_lm_would_leave_our_engine(
    original: dict[str, Any], no_sockets: list[Any]
) -> None:
    trusting = SyncTriage()
    compat.load_state(
        trusting, {"route": {**original["route"], "lm": {"model": "openai/decoy", "num_retries": 0}}}
    )
    trusting.route.lm.kwargs["api_key"] = "sk-decoy"
    with pytest.raises(Exception):  # noqa: B017 - whatever DSPy makes of it
        ask(trusting)
    assert no_sockets
