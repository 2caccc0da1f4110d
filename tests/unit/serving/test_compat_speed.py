"""What the server spares DSPy: trips to threads, and finding out anew what it knew. What comes out stays the same."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, Literal

import dspy
import pytest
from dspy import lm15
from dspy.utils import callback as dspy_callback
from dspy.utils.callback import BaseCallback
from pydantic import BaseModel, TypeAdapter
from tests.unit.serving.programs import RouteTicket, Triage
from tests.unit.serving.test_compat_facts import Engine, Shelf, ask, build_lm

from dspy_server import compat
from dspy_server.compat import quicken
from dspy_server.loops import ServingLoop


class CountingLoop(ServingLoop):
    """Keeps what went to a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.trips: list[str] = []

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        if isinstance(func, functools.partial) and not compat.is_short(func):
            self.trips.append(func.args[0].__name__)
        return super().run_in_executor(executor, func, *args)


def count_trips(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `work` gives on a serving loop, and what it did in threads."""
    loop = CountingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(work()), loop.trips


class Tiers(Shelf):
    def __init__(self, *, in_memory: bool) -> None:
        super().__init__()
        self.is_in_memory = in_memory


@pytest.fixture
def own_cache() -> Iterator[None]:
    own = dspy.cache
    yield
    dspy.cache = own


# --- trips to threads -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("in_memory", "trips"), [(True, []), (False, ["_cached", "_store", "_cached"])], ids=["memory", "disk"]
)
def test_only_a_cache_with_a_disk_makes_threads_work(*, in_memory: bool, trips: list[str]) -> None:
    tiers, engine = Tiers(in_memory=in_memory), Engine()
    compat.install_cache(tiers, lambda: "scope")

    async def work() -> list[str]:
        lm = build_lm(engine, cached=True)
        return [(await ask(lm)).queue for _ in range(2)]

    answers, seen = count_trips(work)
    assert (answers, len(engine.requests), len(tiers.records)) == (["billing"] * 2, 1, 1)
    assert seen == trips


def test_an_engines_first_call_may_fetch_credentials_in_a_thread(base_url: str) -> None:
    async def work() -> None:
        engine, model = compat.build_engine("openai/icl-100", f"{base_url}/v1", "", timeout=10, connections=2)
        request = lm15.Request(model=model, messages=(lm15.Message.user("hello"),))
        for _ in range(3):
            await engine.complete(request)
        await engine.aclose()

    _, trips = count_trips(work)
    assert trips == ["_target"]


@pytest.mark.parametrize(
    ("messages", "settings", "short"),
    [
        ([{"role": "user", "content": "text"}], {}, True),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "f.png"}}]}], {}, False),
        ([{"role": "user", "content": "text"}, {"role": "assistant", "content": None}], {}, False),
        ([{"role": "user", "content": "text"}], {"request": object()}, False),
        (None, {}, False),
    ],
)
def test_what_may_quote_a_file_is_prepared_in_a_thread(messages: Any, settings: Any, *, short: bool) -> None:
    from dspy.clients.execution import prepare  # noqa: PLC0415 - only this test names it

    context = functools.partial(asyncio.run, prepare, object(), None, messages, settings, asynchronous=True)
    assert compat.is_short(context) is short


def test_all_other_work_goes_to_a_thread_and_what_it_raises_comes_back() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def work() -> tuple[int, str]:
        with pytest.raises(KeyError):
            await asyncio.to_thread(fail)
        return await asyncio.to_thread(len, "four"), "done"

    assert count_trips(work) == ((4, "done"), ["fail", "len"])
    assert not compat.is_short(fail)
    assert not compat.is_short(functools.partial(fail))


@pytest.mark.usefixtures("own_cache")
def test_what_a_short_step_raises_is_raised_where_it_is_awaited() -> None:
    class Broken(Tiers):
        def find(self, key: str) -> Any:
            raise OSError(key)

    compat.install_cache(Broken(in_memory=True), lambda: "scope")

    async def work() -> None:
        with pytest.raises(OSError, match=r"^[0-9a-f]{64}$"):
            await ask(build_lm(Engine(), cached=True))

    assert count_trips(work) == (None, [])


@pytest.mark.parametrize(("proxy", "looks"), [("", False), ("http://proxy:3128", True)])
async def test_a_proxy_is_looked_for_at_each_request_only_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, *, proxy: str, looks: bool
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    engine, _ = compat.build_engine("openai/x", "http://llm/v1", "", timeout=1, connections=2)
    transport: Any = engine.router._shared_transport()  # type: ignore[attr-defined]
    assert transport._trust_env is looks
    await engine.aclose()


# --- what is found out once -------------------------------------------------------------------------------------


class Program:
    def __call__(self, *args: Any, **kwargs: Any) -> None: ...
    def ask(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> None: ...
    def plain(self, x: int, y: int = 2) -> None: ...


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("__call__", (1, 2), {"a": 3}),
        ("__call__", (), {}),
        ("ask", (), {"messages": [1], "cache": False}),
        ("ask", ("hello",), {}),
        ("plain", (1,), {}),
        ("plain", (), {"x": 1, "y": 3}),
    ],
)
def test_arguments_are_those_that_inspect_finds(name: str, args: Any, kwargs: Any) -> None:
    function, instance = getattr(Program, name), Program()
    for _ in range(2):
        assert quicken.get_arguments(function, instance, *args, **kwargs) == inspect.getcallargs(
            function, instance, *args, **kwargs
        )
    with pytest.raises(TypeError):
        quicken.get_arguments(Program.plain, instance, 1, 2, 3)


class Decider(Triage):
    supports_decision_requests = True


def test_a_step_is_told_to_the_handler_that_dspy_chooses() -> None:
    quicken.quicken()
    listener = BaseCallback()
    steps = [
        (Decider(), "acall", "lm"),
        (Triage(), "acall", "module"),
        (dspy.Predict(RouteTicket), "acall", "module"),
        (dspy.LM("openai/x"), "acall", "lm"),
        (dspy.Tool(len, name="len"), "acall", "tool"),
        (dspy.ChatAdapter(), "format", "adapter_format"),
        (dspy.ChatAdapter(), "parse", "adapter_parse"),
    ]
    for _ in range(2):
        for instance, name, kind in steps:
            function = inspect.unwrap(getattr(type(instance), name))
            for moment in ("start", "end"):
                found = getattr(dspy_callback, f"_get_on_{moment}_handler")(listener, instance, function)
                assert found == getattr(listener, f"on_{kind}_{moment}")


class Item(BaseModel):
    size: int


@pytest.mark.parametrize("value", ["text", 1, 1.5, True, None, Item(size=1), [1, "x"], {"a": Item(size=2)}])
def test_a_value_is_written_as_pydantic_writes_it(value: Any) -> None:
    for _ in range(2):
        adapter = quicken.get_type_adapter(type(value))
        assert adapter.dump_python(value, mode="json") == TypeAdapter(type(value)).dump_python(
            value, mode="json"
        )


def test_annotations_that_are_equal_but_not_the_same_are_told_apart() -> None:
    assert quicken.get_type_adapter(Item) is quicken.get_type_adapter(Item)
    assert quicken.get_type_adapter(int | str).validate_python("1") == "1"
    assert quicken.get_type_adapter(Literal[1]).validate_python(1) == 1
    first, second = (quicken.get_type_adapter(list[kind]) for kind in (int, str))
    assert (first.validate_python(["1"]), second.validate_python(["1"])) == ([1], ["1"])


def test_each_of_them_is_what_dspy_uses() -> None:
    quicken.quicken()
    assert dspy_callback.inspect.getcallargs is quicken.get_arguments
    assert dspy.adapters.utils.TypeAdapter is quicken.get_type_adapter
    assert dspy.adapters.utils.serialize_for_json(Item(size=3)) == {"size": 3}
