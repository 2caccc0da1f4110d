"""`warmup: Live`: the server asks a program once before it serves, and nobody is worse off when that fails."""

from pathlib import Path
from typing import Any

import dspy
import pytest
from structlog.testing import capture_logs
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.programs import Conversation, RouteTicket, Triage
from tests.unit.serving.test_metrics import scrape
from tests.unit.serving.worlds import World, build_demos, dump_program, get_stub_adapter

from dspy_server import artifact, program
from dspy_server.contract import Metric
from dspy_server.rehearsal import find_question
from dspy_server.server import Server

LIVE = {"serving": {"warmup": "Live"}}


def load(built: Any, folder: Path, module: str) -> program.Program:
    data = dump_program(built, folder)
    return program.load_program(
        data,
        revision="r",
        sha256=artifact.get_digest(data),
        module=f"tests.unit.serving.{module}",
        adapter=get_stub_adapter(),
    )


def test_a_question_is_a_demonstrations_or_a_word_in_each_field(tmp_path: Path) -> None:
    built = Triage()
    assert find_question(load(built, tmp_path, "programs:Triage")) == {"ticket": "warm-up"}
    built.route.demos = [dspy.Example(queue="billing"), *build_demos("billing", 2)]
    assert find_question(load(built, tmp_path, "programs:Triage")) == {"ticket": built.route.demos[1].ticket}


class Typed(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteTicket.append("size", dspy.InputField(), type_=int))

    def forward(self, ticket: str, size: int) -> dspy.Prediction:
        return self.route(ticket=ticket, size=size)


def test_what_no_word_fits_is_asked_only_with_a_demonstration(tmp_path: Path) -> None:
    built = Typed()
    assert find_question(load(built, tmp_path, "test_rehearsal:Typed")) is None
    built.route.demos = [dspy.Example(ticket="t", size="no number", queue="billing")]
    assert find_question(load(built, tmp_path, "test_rehearsal:Typed")) is None
    built.route.demos = [dspy.Example(ticket="t", size=3, queue="billing")]
    assert find_question(load(built, tmp_path, "test_rehearsal:Typed")) == {"ticket": "t", "size": 3}
    assert find_question(load(Conversation(), tmp_path, "programs:Conversation")) is None


def count_calls(server: Server) -> dict[str, float]:
    """Calls of a model by the revision that pays for them."""
    counted: dict[str, float] = {}
    for (name, labels), value in scrape(server.metrics).items():
        if name == Metric.LM_REQUESTS and value:
            revision = dict(labels)["revision"]
            counted[revision] = counted.get(revision, 0) + value
    return counted


@pytest.fixture
def asked() -> Any:
    """A provider of this test's own, so that its calls can be counted."""
    provider = Provider()
    with run_provider(provider) as url:
        yield provider, url


async def test_each_program_is_asked_once_before_it_serves_and_no_revision_pays(
    world: World, asked: tuple[Provider, str]
) -> None:
    provider, url = asked
    world.split(50)
    with capture_logs() as lines:
        async with run(world, url, LIVE, wait_for=("rev0", "rev1")) as (server, client):
            assert sum(provider.calls.values()) == 2
            assert sorted(line["revision"] for line in lines if line["event"] == "rehearsed") == [
                "rev0",
                "rev1",
            ]
            assert count_calls(server) == {"": 2}
            await ask(client, X_Revision="rev1")
            assert count_calls(server) == {"": 3}
            answer = (await ask(client)).json()
            assert count_calls(server) == {"": 3, answer["meta"]["revision"]: 1}


async def test_without_live_nobody_is_asked(world: World, asked: tuple[Provider, str]) -> None:
    provider, url = asked
    world.split(50)
    async with run(world, url, wait_for=("rev0", "rev1")):
        assert sum(provider.calls.values()) == 0


@pytest.mark.parametrize("fault", ["fail500", "slow", "garbage", "fail401"])
async def test_a_model_that_fails_keeps_no_program_from_serving(
    world: World, asked: tuple[Provider, str], fault: str
) -> None:
    provider, url = asked
    provider.set_faults({"*": {"fault": fault}})
    world.split(0)
    with capture_logs() as lines:
        async with run(
            world, url, build_lm(url, "openai/icl-100", timeout="1s") | LIVE, wait_for=("rev0", "rev1")
        ):
            failed = [line for line in lines if line["event"] == "rehearsal_failed"]
            assert sorted(line["revision"] for line in failed) == ["rev0", "rev1"]
            assert not [line for line in lines if line["event"] == "program_refused"]


async def test_a_program_that_fails_serves_too_and_says_nothing_of_its_inputs(
    world: World, asked: tuple[Provider, str], tmp_path: Path
) -> None:
    _, url = asked
    built = Triage()
    built.route.demos = [dspy.Example(ticket="please explode", queue="billing")]
    world.fill_slot(0, dump_program(built, tmp_path))
    world.split(0)
    with capture_logs() as lines:
        async with run(world, url, LIVE, wait_for=("rev0", "rev1")):
            [failed] = [line for line in lines if line["event"] == "rehearsal_failed"]
    assert (failed["revision"], failed["error"]) == ("rev0", "ValueError")
    assert "secret" not in str(lines)
    assert "explode" not in str(lines)
