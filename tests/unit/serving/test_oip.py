"""The Open Inference Protocol: the same answers, asked with tensors."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from tests.unit.serving.harness import build_lm, run
from tests.unit.serving.test_metrics import get, scrape
from tests.unit.serving.test_stream import ADVICE, ANSWER, write_reply
from tests.unit.serving.worlds import World

from dspy_server.oip import MAX_ROWS, _build_tensor

INFER = "/v2/models/triage/infer"


def build_tensor(*values: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "ticket", "shape": [len(values)], "datatype": "BYTES", "data": list(values), **changes}


async def infer(client: httpx.AsyncClient, *tensors: dict[str, Any], **more: Any) -> httpx.Response:
    return await client.post(INFER, json={"inputs": list(tensors), **more})


async def test_one_question_has_the_answer_of_ask(world: World, base_url: str, tmp_path: Path) -> None:
    write_reply(world, tmp_path)
    async with run(world, base_url, wait_for=("rev2",)) as (server, client):
        response = await infer(client, build_tensor("money back"), id="mine")
        some = await infer(client, build_tensor("money back"), outputs=[{"name": "answer"}])
        samples = scrape(server.metrics)
        token = response.json()["parameters"]["feedback_tokens"]
        voted = await client.post("/feedback", json={"feedback_token": token, "score": 1})
    body = response.json()
    assert (response.status_code, body["model_name"], body["model_version"]) == (200, "triage", "rev2")
    assert body["id"] == "mine"
    assert body["outputs"] == [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}
        for name, value in (("mood", "angry"), ("answer", ANSWER), ("advice", ADVICE))
    ]
    assert body["parameters"]["request_id"] == response.headers["x-request-id"]
    assert [tensor["name"] for tensor in some.json()["outputs"]] == ["answer"]
    assert voted.json()["counted"] is True
    labels = {"route": "/v2/models/{model}/infer", "code": "200"}
    assert get(samples, "dspy_http_requests_total", revision="rev2", **labels) == 2


async def test_a_batch_is_one_request_of_one_revision_with_an_answer_a_row(
    world: World, base_url: str
) -> None:
    world.split(50)
    async with run(world, base_url, wait_for=("rev0", "rev1")) as (server, client):
        for shape in ([20], [20, 1]):
            rows: list[Any] = [f"hello {index}" for index in range(20)]
            data = [[row] for row in rows] if len(shape) > 1 else rows
            body = (await infer(client, build_tensor(*rows, shape=shape, data=data))).json()
            revision = body["model_version"]
            expected = {"rev0": "billing", "rev1": "shipping"}[revision]
            assert body["outputs"][0]["data"] == [expected] * 20
            assert len(set(body["parameters"]["feedback_tokens"].split())) == 20
        samples = scrape(server.metrics)
        votes = [
            (await client.post("/feedback", json={"feedback_token": token, "score": 1})).status_code
            for token in body["parameters"]["feedback_tokens"].split()
        ]
    asked = sum(
        get(samples, "dspy_http_requests_total", revision=name, route="/v2/models/{model}/infer", code="200")
        for name in ("rev0", "rev1")
    )
    assert asked == 2
    assert set(votes) == {200}


WRONG: dict[str, Any] = {
    "no tensors": {"inputs": []},
    "no list": [1],
    "no name": {"inputs": [{"data": ["x"]}]},
    "another shape": {"inputs": [build_tensor("x", shape=[2])]},
    "a matrix": {"inputs": [build_tensor(["x", "y"], shape=[1, 2])]},
    "no shape": {"inputs": [build_tensor("x", shape=None)]},
    "an empty batch": {"inputs": [build_tensor()]},
    "too many rows": {"inputs": [build_tensor(*["x"] * (MAX_ROWS + 1))]},
    "an unknown field": {"inputs": [build_tensor("x", name="nothing")]},
    "two sizes": {"inputs": [build_tensor("x"), build_tensor("x", "y", name="other")]},
    "another type": {"inputs": [build_tensor({"x": 1})]},
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_tensors_are_a_problem(world: World, base_url: str, what: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    async with run(world, base_url) as (_, client):
        response = await client.post(INFER, json=WRONG[what])
    assert (response.status_code, response.json()["code"]) == (422, "inputs")
    assert response.json()["error"]
    assert response.json()["errors"]


async def test_one_row_that_fails_fails_the_batch_and_ends_the_others(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    config = build_lm(base_url, "openai/icl-100+slow", timeout="20s")
    async with run(world, base_url, config) as (server, client):
        async with asyncio.timeout(2.5):
            response = await infer(client, build_tensor("hello", "explode", "hello"))
        await asyncio.sleep(0)
        assert get(scrape(server.metrics), "dspy_inflight", revision="rev0") == 0
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.json()["error"] == "The program failed"


async def test_rows_wait_for_their_slots_within_the_limits(world: World, base_url: str) -> None:
    world.write_table(world.route(0, 100, "stable"))
    limits = {"concurrency": 2, "queue": 8}
    async with run(world, base_url, {"serving": {"limits": limits}}) as (_, client):
        fits = await infer(client, build_tensor(*[f"hello {index}" for index in range(10)]))
        full = await infer(client, build_tensor(*[f"more {index}" for index in range(11)]))
    assert fits.status_code == 200
    assert (full.status_code, full.json()["code"]) == (429, "queue")


async def test_health_and_metadata(world: World, base_url: str, tmp_path: Path) -> None:
    async with run(world, base_url, wait_for=()) as (_, client):
        before = [
            await client.get(f"/v2/{path}") for path in ("health/live", "health/ready", "models/triage")
        ]
    assert [response.status_code for response in before] == [200, 503, 503]
    write_reply(world, tmp_path)
    async with run(world, base_url, wait_for=("rev2",)) as (server, client):
        ready, model = await client.get("/v2/health/ready"), await client.get("/v2/models/triage")
        other, unknown = await client.get("/v2/models/other"), await client.post("/v2/models/other/infer")
        server.draining = True
        draining = await client.get("/v2/health/ready")
    assert ready.json() == {"ready": True}
    assert model.json() == {
        "name": "triage",
        "versions": ["rev2"],
        "platform": "dspy",
        "inputs": [{"name": "ticket", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("mood", "answer", "advice")
        ],
    }
    assert [item.status_code for item in (other, unknown, draining)] == [404, 404, 503]


@pytest.mark.parametrize(
    ("annotation", "values", "datatype", "data"),
    [
        (str, ["a", "b"], "BYTES", ["a", "b"]),
        (Literal["a", "b"], ["a"], "BYTES", ["a"]),
        (bool, [True], "BOOL", [True]),
        (int, [1, 2], "INT64", [1, 2]),
        (float, [0.5], "FP64", [0.5]),
        (int, [1, None], "BYTES", ["1", "null"]),
        (list[str], [["a"]], "BYTES", ['["a"]']),
        (str | None, ["a"], "BYTES", ['"a"']),
        (None, [{"x": 1}], "BYTES", ['{"x":1}']),
    ],
)
def test_a_tensor_holds_values_or_says_that_it_holds_json(
    annotation: Any, values: list[Any], datatype: str, data: list[Any]
) -> None:
    tensor = _build_tensor("field", annotation, values)
    assert (tensor["datatype"], tensor["data"]) == (datatype, data)
    assert ("parameters" in tensor) == (data != values)
