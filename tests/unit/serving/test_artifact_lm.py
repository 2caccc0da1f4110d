"""What an artifact may say of the LM: nothing, or (`artifactLm: Allow`) a model of the deployment and its sampling."""

import asyncio
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.provider.icl_lm import Provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.programs import Triage
from tests.unit.serving.test_engine import FakeTarget
from tests.unit.serving.worlds import World, build_demos, dump_program, get_stub_adapter, until

from dspy_server import artifact, compat, program
from dspy_server.artifact_lm import LmChoice, check_choice
from dspy_server.breaker import Breaker, Gate
from dspy_server.errors import RefusedError
from dspy_server.lm import LmChoices
from dspy_server.metrics import Metrics
from dspy_server.settings import Lm
from dspy_server.targets import LmTarget

MODELS = frozenset({"openai/large", "openai/small"})
ALLOW = {"serving": {"artifactLm": "Allow"}}
FALLBACK = {"DSPY_LM_KEY_1": "sk-other"}


def build_artifact(folder: Path, model: str, **sampling: Any) -> bytes:
    """A program whose one predictor was compiled with an LM of its own, as DSPy writes it."""
    built = Triage()
    built.route.demos = build_demos("billing", 2)
    built.route.lm = dspy.LM(model, **sampling)
    return dump_program(built, folder)


# --- what is allowed --------------------------------------------------------------------------------------------


def test_what_dspy_writes_of_an_lm_is_a_choice(tmp_path: Path) -> None:
    data = build_artifact(tmp_path, "openai/small", temperature=0.3, max_tokens=77, top_p=0.9)
    state = json.loads(data)["route"]["lm"]
    assert check_choice("route.lm", state, MODELS) == LmChoice("openai/small", 0.3, 77, 0.9)
    assert check_choice("route.lm", {"model": "openai/small"}, MODELS) == LmChoice("openai/small")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"model": "openai/huge"},
            ".model: 'openai/huge' is not in spec.lm, which has openai/large, openai/small",
        ),
        ({"model": None}, ".model: 'None' is not in spec.lm"),
        ({"model": ["openai/small"]}, "is not in spec.lm"),
        (
            {"api_base": "http://evil"},
            ".api_base: an artifact may choose model, temperature, max_tokens, top_p",
        ),
        ({"api_key": "sk-x"}, ".api_key: an artifact may choose"),
        ({"extra_headers": {}}, ".extra_headers: an artifact may choose"),
        ({"temperature": 2.5}, ".temperature: not a number from 0 to 2"),
        ({"temperature": True}, ".temperature: not a number"),
        ({"temperature": "0"}, ".temperature: not a number"),
        ({"top_p": -0.1}, ".top_p: not a number from 0 to 1"),
        ({"max_tokens": 0}, ".max_tokens: not a number from 1"),
        ({"max_tokens": 10.5}, ".max_tokens: not a whole number"),
    ],
)
def test_anything_else_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    found = check_choice("route.lm", {"model": "openai/small", **change}, MODELS)
    assert isinstance(found, list)
    assert [sentence for sentence in found if f"route.lm{reason}" in sentence or reason in sentence] == found
    assert "sk-x" not in str(found)
    assert "evil" not in str(found)


def test_what_is_no_object_is_refused() -> None:
    assert check_choice("route.lm", "openai/small", MODELS) == ["route.lm: not an object"]


def test_it_is_dropped_unless_it_is_allowed_and_dspy_never_sees_it(tmp_path: Path) -> None:
    data = build_artifact(tmp_path, "openai/small", temperature=0.3)
    shape = compat.get_shape(Triage())
    for models, choices, notes in (
        (None, {}, ("route.lm: dropped, the deployment's spec.lm answers",)),
        (MODELS, {"route": LmChoice("openai/small", 0.3)}, ()),
    ):
        checked = artifact.check(
            data, artifact.get_digest(data), shape, dspy_version=compat.DSPY_VERSION, models=models
        )
        assert (checked.choices, checked.notes) == (choices, notes)
        assert checked.state["route"]["lm"] is None


# --- what comes of it -------------------------------------------------------------------------------------------


def build_choices(*fakes: FakeTarget) -> LmChoices:
    clock = asyncio.get_running_loop().time
    names = ("openai/large", "openai/small")
    specs = [{"model": name, "temperature": 1.0, "maxTokens": 100} for name in names]
    targets = tuple(
        LmTarget(name, f"declared:{name}", 100, fake, Breaker(5, 30.0, clock), Gate(100, 30.0, clock))  # type: ignore[arg-type]  # it cannot stream
        for name, fake in zip(names, fakes, strict=True)
    )
    lm = Lm.model_validate({"primary": specs[0], "fallbacks": specs[1:]})
    return LmChoices(lm, targets, Metrics("triage"))


def load(data: bytes, choices: LmChoices | None) -> Any:
    return program.load_program(
        data,
        revision="r",
        sha256=artifact.get_digest(data),
        module="tests.unit.serving.programs:Triage",
        adapter=get_stub_adapter(),
        choices=choices,
    ).module


async def test_a_predictor_asks_its_own_model_first_and_the_others_when_it_fails(tmp_path: Path) -> None:
    large, small = FakeTarget(), FakeTarget(compat.build_timeout("slow"))
    data = build_artifact(tmp_path, "openai/small", temperature=0.3, max_tokens=5000, top_p=0.9)
    module = load(data, build_choices(large, small))
    await module.route.lm.acall("hello")
    [request] = small.requests
    assert (request.model, request.config.temperature, request.config.top_p) == (
        "declared:openai/small",
        0.3,
        0.9,
    )
    assert request.config.max_tokens == 100, "never more than the deployment allows"
    assert [request.model for request in large.requests] == ["declared:openai/large"]


async def test_what_an_artifact_leaves_open_is_as_the_model_is_configured(tmp_path: Path) -> None:
    large, small = FakeTarget(), FakeTarget()
    module = load(build_artifact(tmp_path, "openai/small", max_tokens=7), build_choices(large, small))
    await module.route.lm.acall("hello")
    assert (small.requests[0].config.temperature, small.requests[0].config.max_tokens) == (1.0, 7)
    assert large.requests == []


async def test_choices_never_share_a_cache_key_with_the_deployments_own_lm(tmp_path: Path) -> None:
    choices = build_choices(FakeTarget(), FakeTarget())
    names = {choices.build(LmChoice(model)).model for model in MODELS}
    assert len(names) == 2
    assert all(name.startswith("served/") for name in names)
    assert load(build_artifact(tmp_path, "openai/small"), None).route.lm is None


async def test_a_model_that_the_deployment_has_not_is_refused(tmp_path: Path) -> None:
    choices = build_choices(FakeTarget(), FakeTarget())
    with pytest.raises(RefusedError, match=r"route\.lm\.model: 'openai/huge' is not in spec\.lm"):
        load(build_artifact(tmp_path, "openai/huge"), choices)


async def test_a_whole_server_lets_the_artifact_choose_only_if_it_may(
    world: World, base_url: str, tmp_path: Path, provider: Provider
) -> None:
    world.fill_slot(0, build_artifact(tmp_path, "openai/icl-90"))
    world.split(0)
    lm = build_lm(base_url, "openai/icl-100", "openai/icl-90")
    for config, model in ((lm, "openai/icl-100"), (lm | ALLOW, "openai/icl-90")):
        async with run(world, base_url, config, wait_for=("rev0", "rev1"), **FALLBACK) as (_, client):
            answer = (await ask(client)).json()
            assert answer["meta"]["model"] == model
    world.fill_slot(0, build_artifact(tmp_path, "openai/const"))
    world.split(0)
    async with run(world, base_url, lm | ALLOW, wait_for=(), **FALLBACK) as (server, _):
        await until(lambda: bool(server.keeper.get_reasons()))
        assert "is not in spec.lm" in str(server.keeper.get_reasons()["rev0"])
