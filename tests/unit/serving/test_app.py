import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.unit.serving.harness import ask, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.worlds import World, list_users, until

from dspy_server.app import build_metrics_app
from dspy_server.contract import ScoreSource

SCORING = {"scoring": {"function": "tests.unit.serving.programs:score"}}
LM = {"timeout": "5s"}


async def test_an_answer_has_outputs_and_meta(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, SCORING) as (_, client):
        response = await ask(client)
    assert response.status_code == 200
    body = response.json()
    assert body["outputs"] == {"queue": "billing"}
    meta = body["meta"]
    assert {key: meta[key] for key in ("revision", "track", "model", "cache")} == {
        "revision": "rev0",
        "track": "stable",
        "model": "openai/icl-100",
        "cache": "miss",
    }
    assert meta["request_id"] == response.headers["x-request-id"]
    assert meta["usage"]["lm_calls"] == 1
    assert meta["usage"]["prompt_tokens"] > 0
    assert meta["feedback_token"].startswith("v1.")


async def test_both_revisions_answer_from_their_own_artifact(world: World, base_url: str) -> None:
    world.split(50)
    expected = {"rev0": "billing", "rev1": "shipping"}
    async with run(world, base_url, wait_for=("rev0", "rev1")) as (_, client):
        responses = await asyncio.gather(*(ask(client, X_User_Id=user) for user in list_users(40)))
    answers = [response.json() for response in responses]
    assert {answer["meta"]["revision"] for answer in answers} == {"rev0", "rev1"}
    assert [answer["outputs"]["queue"] for answer in answers] == [
        expected[a["meta"]["revision"]] for a in answers
    ]


async def test_the_same_user_gets_the_same_revision(world: World, base_url: str) -> None:
    world.split(50)
    async with run(world, base_url, wait_for=("rev0", "rev1")) as (_, client):
        for user in list_users(5):
            revisions = {(await ask(client, X_User_Id=user)).json()["meta"]["revision"] for _ in range(4)}
            assert len(revisions) == 1


async def test_inputs_may_be_given_as_they_are(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        assert (await client.post("/ask", json={"ticket": "hello"})).status_code == 200


@pytest.mark.parametrize("module", ["SyncTriage", "build_triage", "Triage"])
async def test_a_module_is_a_class_or_a_factory_with_or_without_aforward(
    world: World, base_url: str, module: str
) -> None:
    world.write_table(world.route(0, 100, "stable", module=f"tests.unit.serving.programs:{module}"))
    async with run(world, base_url) as (_, client):
        responses = await asyncio.gather(*(ask(client) for _ in range(8)))
    assert {response.json()["outputs"]["queue"] for response in responses} == {"billing"}


async def test_as_many_programs_in_threads_as_are_admitted_do_not_wait_for_each_other(
    world: World, base_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable", module="tests.unit.serving.programs:SyncTriage"))
    config = {"serving": {"limits": {"concurrency": 12, "queue": 100}}}
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with run(world, base_url, config) as (_, client):
        responses = await asyncio.gather(*(ask(client) for _ in range(30)))
    assert {response.status_code for response in responses} == {200}


async def test_scores_and_counts_of_both_revisions_are_kept_apart(world: World, base_url: str) -> None:
    world.split(50)
    async with run(world, base_url, SCORING, wait_for=("rev0", "rev1")) as (server, client):
        responses = await asyncio.gather(*(ask(client, "refuse", X_User_Id=user) for user in list_users(40)))
        await server.scorer.flush()
        samples = scrape(server.metrics)
    revisions = [response.json()["meta"]["revision"] for response in responses]
    for revision, score in (("rev0", 0.5), ("rev1", 0.25)):
        count = revisions.count(revision)
        assert count > 5
        assert get(samples, "dspy_score_samples_total", revision=revision, source="metric") == count
        assert get(samples, "dspy_score_sum_total", revision=revision, source="metric") == count * score
        assert (
            get(samples, "dspy_score_sumsq_total", revision=revision, source="metric")
            == count * score * score
        )
        assert get(samples, "dspy_http_requests_total", revision=revision, route="/ask", code="200") == count
        assert get(samples, "dspy_request_duration_seconds_count", revision=revision, cache="miss") == count
        assert (
            get(samples, "dspy_requests_total", revision=revision, model="openai/icl-100", status="ok")
            == count
        )


async def test_a_users_counter_counts_for_the_revision_that_answers(world: World, base_url: str) -> None:
    sync = "tests.unit.serving.programs:SyncTriage"
    world.write_table(world.route(0, 50, "stable"), world.route(1, 50, "canary", module=sync))
    async with run(world, base_url, wait_for=("rev0", "rev1")) as (server, client):
        before = scrape(server.metrics)
        responses = await asyncio.gather(*(ask(client, "refuse", X_User_Id=user) for user in list_users(20)))
        after = scrape(server.metrics)
    revisions = [response.json()["meta"]["revision"] for response in responses]
    for revision in ("rev0", "rev1"):
        grown = get(after, "triage_refusals_total", revision=revision) - get(
            before, "triage_refusals_total", revision=revision
        )
        assert grown == revisions.count(revision) > 0


@pytest.mark.parametrize("name", ["canary", "rev1"])
async def test_an_overridden_request_goes_there_at_weight_0_and_counts_nowhere(
    world: World, base_url: str, name: str
) -> None:
    world.split(0)
    async with run(world, base_url, SCORING, wait_for=("rev0", "rev1")) as (server, client):
        before = scrape(server.metrics)
        response = await ask(client, "refuse", X_Revision=name)
        await server.scorer.flush()
        after = scrape(server.metrics)
    assert response.json()["meta"]["revision"] == "rev1"
    assert response.json()["meta"]["feedback_token"] is None
    grown = {key for key, value in after.items() if value != before.get(key, 0.0)}
    assert grown
    assert all(
        ("revision", "rev0") not in labels and ("revision", "rev1") not in labels for _, labels in grown
    )


async def test_feedback_counts_for_the_revision_that_answered(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (server, client):
        token = (await ask(client)).json()["meta"]["feedback_token"]
        first = await client.post("/feedback", json={"feedback_token": token, "score": 0.75})
        second = await client.post("/feedback", json={"feedback_token": token, "score": 0.75})
        samples = scrape(server.metrics)
    assert (first.status_code, first.json()["counted"]) == (200, True)
    assert (second.status_code, second.json()["code"]) == (409, "feedback_used")
    assert get(samples, "dspy_score_sum_total", revision="rev0", source="feedback") == 0.75


async def test_without_a_key_there_is_no_token_and_feedback_says_why(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, DSPY_LM_KEY_0="short") as (_, client):
        assert (await ask(client)).json()["meta"]["feedback_token"] is None
        response = await client.post("/feedback", json={"feedback_token": "x", "score": 1})
    assert (response.status_code, response.json()["code"]) == (503, "feedback_key_missing")


async def test_before_the_first_table_only_ready_and_ask_say_503(world: World, base_url: str) -> None:
    async with run(world, base_url, wait_for=()) as (_, client):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/version")).status_code == 200
        ready, answer = await client.get("/ready"), await ask(client)
    assert (ready.status_code, ready.json()["generation"]) == (503, 0)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_ready_says_what_each_program_is(world: World, base_url: str) -> None:
    world.fill_slot(1, b"{}")
    world.split(10)
    async with run(world, base_url) as (server, client):
        await until(lambda: server.keeper.get_states()["rev1"] == "refused")
        response = await client.get("/ready")
    assert response.status_code == 200
    body = response.json()
    assert (body["generation"], body["seenGeneration"], body["error"]) == (1, 1, "")
    assert body["programs"] == {"rev0": "loaded", "rev1": "refused"}
    assert body["reasons"]["rev1"]


async def test_a_draining_server_is_unready_but_answers_and_closes_connections(
    world: World, base_url: str
) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (server, client):
        server.draining = True
        ready, answer = await client.get("/ready"), await ask(client)
    assert (ready.status_code, answer.status_code) == (503, 200)
    assert answer.headers["connection"] == "close"


async def test_a_share_of_an_unloaded_canary_is_counted(world: World, base_url: str) -> None:
    world.fill_slot(1, b"{}")
    world.split(100)
    async with run(world, base_url) as (server, client):
        response = await ask(client)
        samples = scrape(server.metrics)
    assert response.json()["meta"]["revision"] == "rev0"
    assert get(samples, "dspy_route_fallback_total", revision="rev1") == 1
    assert get(samples, "dspy_program_loaded", revision="rev1") == 0


async def test_metrics_have_a_listener_of_their_own(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (server, client):
        assert (await client.get("/metrics")).status_code == 404
        transport = httpx.ASGITransport(app=build_metrics_app(server.metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as scraper:
            response = await scraper.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'dspy_program_loaded{program="triage",revision="rev0"} 1.0' in response.text


async def test_no_user_no_key_and_no_text_is_in_metrics_or_version(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, SCORING) as (server, client):
        await ask(client, "my very private ticket", X_User_Id="alice@example.com")
        version = (await client.get("/version")).text
        text = server.metrics.render().decode() + version
    assert not [word for word in ("alice", "private", "sk-0123456789") if word in text]
    assert json.loads(version)["routes"][0]["loaded"] is True


async def test_a_failure_is_logged_without_its_text(
    world: World, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []

    class Log:
        def __getattr__(self, level: str) -> Any:
            return lambda event, **fields: lines.append({"event": event, "level": level, **fields})

    monkeypatch.setattr("dspy_server.logs.get_logger", Log)
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        await ask(client, "explode")
    failure = next(line for line in lines if line["event"] == "ask_failed")
    assert (failure["error"], failure["error_class"], failure["revision"]) == (
        "ValueError",
        "internal",
        "rev0",
    )
    assert "programs.py" in failure["where"]
    assert "secret" not in json.dumps(lines)


async def test_an_unscored_answer_is_an_answer(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, SCORING) as (server, client):
        assert (await ask(client, "unscored")).status_code == 200
        await server.scorer.flush()
        assert server.metrics.get_moments()["rev0", ScoreSource.METRIC].count == 0


async def test_a_missing_scoring_function_stops_nothing(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url, {"scoring": {"function": "no_such_module:score"}}) as (_, client):
        assert (await ask(client)).status_code == 200


async def test_a_synchronous_call_on_the_loop_fails_with_a_class(world: World, base_url: str) -> None:
    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    world.write_table(world.route(0, 100, "stable", module="tests.unit.serving.programs:Blocking"))
    async with run(world, base_url) as (_, client):
        response = await ask(client)
    assert (response.status_code, response.json()["code"]) == (500, "internal")
