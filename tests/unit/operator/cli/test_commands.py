"""The commands against a real API server: what they print, how they end, what they write."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.api_tier import ApiServer, run_api_server
from tests.cluster.builds import tool
from tests.unit.operator.cli import recorded, samples

from dspy_operator.api.names import Command
from dspy_operator.cli.exits import Exit
from dspy_operator.cli.main import run
from dspy_operator.kube.client import Client
from dspy_operator.kube.resources import DSPYDEPLOYMENTS, DSPYROLLOUTS, PODS

pytestmark = pytest.mark.api

ROOT = Path(__file__).parents[4]
NAME, NAMESPACE = samples.NAME, samples.NAMESPACE
Object = dict[str, Any]
Run = Callable[..., int]


@pytest.fixture(scope="module")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with run_api_server(tmp_path_factory.mktemp("api")) as server:
        kubectl = [str(tool("kubectl")), "--kubeconfig", str(server.kubeconfig)]
        subprocess.run([*kubectl, "apply", "--server-side", "-f", str(ROOT / "crds")], check=True)
        crds = ("crd/dspydeployments.dspy-operator.io", "crd/dspyrollouts.dspy-operator.io")
        subprocess.run([*kubectl, "wait", "--for=condition=Established", "--timeout=30s", *crds], check=True)
        subprocess.run([*kubectl, "create", "namespace", NAMESPACE], check=True)
        yield server


class World:
    """The objects of the samples in the API server, and the operator's part in the play."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.deployment: Object = {}

    async def build(self, deployment: Object, rollout: Object | None = None) -> None:
        self.deployment = await self.create(DSPYDEPLOYMENTS, deployment)
        if rollout is not None:
            await self.create(DSPYROLLOUTS, rollout)
        for pod in samples.pods():
            pod["metadata"] |= {"namespace": NAMESPACE}
            pod["metadata"]["labels"] |= {
                "app.kubernetes.io/name": "dspy-server",
                "app.kubernetes.io/instance": NAME,
                "app.kubernetes.io/component": "server",
            }
            await self.create(PODS, pod | {"spec": {"containers": [{"name": "server", "image": "server"}]}})

    async def create(self, resource: Any, wanted: Object) -> Object:
        for reference in wanted["metadata"].get("ownerReferences", ()):
            reference["uid"] = self.deployment["metadata"]["uid"]
        metadata = {k: v for k, v in wanted["metadata"].items() if k not in {"uid", "generation"}}
        made = await self.client.create(resource, wanted | {"metadata": metadata})
        status = wanted["status"]
        if resource is DSPYDEPLOYMENTS:
            observed = {"observedGeneration": made["metadata"]["generation"]}
            status |= observed | {"conditions": [c | observed for c in status["conditions"]]}
        return await self.write_status(resource, made, status)

    async def write_status(self, resource: Any, obj: Object, status: Object) -> Object:
        metadata = obj["metadata"]
        version = {"uid": metadata["uid"], "resource_version": metadata["resourceVersion"]}
        return await self.client.patch_status(resource, NAMESPACE, metadata["name"], status, **version)

    async def get(self, resource: Any, name: str) -> Object:
        found = await self.client.find(resource, NAMESPACE, name)
        assert found is not None
        return found

    async def wait_for(self, command: Command) -> str:
        """The value that a command wrote."""
        async with asyncio.timeout(30):
            while True:
                found = await self.get(DSPYDEPLOYMENTS, NAME)
                if value := found["metadata"].get("annotations", {}).get(command.annotation):
                    return str(value)
                await asyncio.sleep(0.05)

    async def destroy(self) -> None:
        for resource in (DSPYROLLOUTS, DSPYDEPLOYMENTS, PODS):
            for found in await self.client.list_(resource, NAMESPACE):
                metadata = found["metadata"]
                await self.client.delete(resource, NAMESPACE, metadata["name"], uid=metadata["uid"])


@pytest.fixture
async def world(api_server: ApiServer) -> AsyncIterator[World]:
    client = await Client.from_environment(kubeconfig=str(api_server.kubeconfig))
    built = World(client)
    yield built
    await built.destroy()
    await client.close()


@pytest.fixture
def call(api_server: ApiServer) -> Callable[..., Any]:
    """Runs a command as a person does; a coroutine, so that the operator can act meanwhile."""

    async def command(*arguments: str) -> int:
        target = ("-n", NAMESPACE, "--kubeconfig", str(api_server.kubeconfig))
        return await asyncio.to_thread(run, [*arguments, *target])

    return command


async def test_get_shows_the_canary_its_evidence_and_its_pods(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.deployment(), samples.rollout())
    assert await call("get", NAME) == Exit.HEALTHY
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{NAMESPACE}/{NAME}  Progressing  10 % for 12m")
    assert "canary   bbbbbbbbbbbb  10 %  revision 81c0e7b2a9" in shown
    assert "pods     1 of 2 ready, 1 restarts" in shown
    assert any(line.startswith("metric   score  Wait  worse by 0.4%") for line in shown)


async def test_get_lists_and_speaks_json(world: World, call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    await world.build(samples.deployment(), samples.rollout())
    assert await call("get", "-A", "-o", "wide") == Exit.HEALTHY
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["NAMESPACE", "NAME", "READY"]
    assert row.split()[:6] == [NAMESPACE, NAME, "Unknown", "Progressing", "10", "%"]
    assert await call("get", NAME, "-o", "json") == Exit.HEALTHY
    data = json.loads(capsys.readouterr().out)
    assert (data["canary"]["weight"], data["rollout"]["step"], len(data["pods"])) == (10, 1, 2)


@pytest.mark.parametrize(
    ("deployment", "end", "word"),
    [
        (samples.healthy(), Exit.HEALTHY, "healthy"),
        (samples.deployment(), Exit.IN_PROGRESS, "in progress"),
        (samples.rolled_back(), Exit.DEGRADED, "degraded"),
    ],
)
async def test_status_tells_a_pipeline_how_it_is(
    world: World, call: Any, capsys: pytest.CaptureFixture[str], deployment: Object, end: Exit, word: str
) -> None:
    await world.build(deployment)
    assert await call("status", NAME) == end
    assert capsys.readouterr().out.startswith(f"{NAMESPACE}/{NAME} is {word}: ")


async def test_status_waits_until_the_rollout_is_over_or_time_is_up(world: World, call: Any) -> None:
    await world.build(samples.deployment())
    assert await call("status", NAME, "--wait", "--timeout", "100ms") == Exit.IN_PROGRESS
    waiting = asyncio.create_task(call("status", NAME, "--wait"))
    now = await world.get(DSPYDEPLOYMENTS, NAME)
    generation = {"observedGeneration": now["metadata"]["generation"]}
    over = [condition | generation for condition in samples.rolled_back()["status"]["conditions"]]
    await world.write_status(DSPYDEPLOYMENTS, now, {"conditions": over})
    assert await waiting == Exit.DEGRADED


async def test_promote_waits_until_the_attempts_record_holds_its_nonce(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.deployment(), samples.rollout())
    asking = asyncio.create_task(call("promote", NAME))
    nonce = await world.wait_for(Command.PROMOTE)
    record = await world.get(DSPYROLLOUTS, samples.ROLLOUT)
    done = {
        "step": 2,
        "weight": 50,
        "message": "Promoted by a person",
        "handledCommands": {"promote": [nonce]},
    }
    await world.write_status(DSPYROLLOUTS, record, done)
    assert await asking == Exit.HEALTHY
    shown = capsys.readouterr().out
    assert "promote was handled: step 1 → 2, weight 10 % → 50 %" in shown
    assert "Promoted by a person" in shown


async def test_retry_waits_for_the_record_of_the_deployment(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.rolled_back(), samples.ended_rollout())
    asking = asyncio.create_task(call("retry", NAME))
    nonce = await world.wait_for(Command.RETRY)
    found = await world.get(DSPYDEPLOYMENTS, NAME)
    done = {"phase": "Progressing", "handledCommands": {"retry": [nonce]}}
    await world.write_status(DSPYDEPLOYMENTS, found, done)
    assert await asking == Exit.HEALTHY
    assert "retry was handled: Degraded → Progressing" in capsys.readouterr().out


async def test_a_command_that_nobody_handles_ends_as_in_progress_and_says_why(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.deployment(), samples.rollout())
    assert await call("abort", NAME, "--timeout", "300ms") == Exit.IN_PROGRESS
    assert "has not handled abort within 0.3 s" in capsys.readouterr().err


async def test_each_command_writes_its_own_annotation_later_than_the_last(world: World, call: Any) -> None:
    await world.build(samples.deployment(), samples.rollout())
    values = []
    for arguments, command in (
        (["pause"], Command.PAUSE),
        (["resume"], Command.RESUME),
        (["promote", "--full"], Command.PROMOTE_FULL),
        (["undo"], Command.UNDO),
    ):
        assert await call(*arguments, NAME, "--timeout", "50ms") == Exit.IN_PROGRESS
        values.append(await world.wait_for(command))
    assert values == sorted(set(values))


async def test_undo_goes_to_a_version_or_a_revision_that_history_shows(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.rolled_back(), samples.ended_rollout())
    assert await call("undo", NAME, "--to", "a" * 12, "--timeout", "50ms") == Exit.IN_PROGRESS
    assert (await world.wait_for(Command.UNDO)).endswith("Z/3f9a12c4d5")
    capsys.readouterr()
    assert await call("undo", NAME, "--to", "unknown") == Exit.USAGE
    assert "kubectl dspy history" in capsys.readouterr().err


async def test_history_and_explain_say_why_the_last_attempt_ended(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.build(samples.rolled_back(), samples.ended_rollout())
    assert await call("history", NAME) == Exit.HEALTHY
    assert "score fell 19.8 % on 180 samples" in capsys.readouterr().out
    assert await call("explain", NAME) == Exit.HEALTHY
    assert "may drop 5 %, tolerance 3 %" in capsys.readouterr().out
    assert await call("explain", NAME, "--rollout", "none") == Exit.USAGE


async def test_the_last_attempt_is_replayed_and_the_next_one_planned(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout, attempt = samples.rollout(), recorded.build_attempt()
    rollout["status"] |= attempt
    await world.build(samples.deployment(), rollout)
    assert await call("explain", NAME, "--replay") == Exit.HEALTHY
    assert capsys.readouterr().out.splitlines()[-1] == "5 looks, the same verdict at every look"
    attempt["decisions"][0]["message"] = "score -1.0 % on 9 of 50 samples"
    found = await world.get(DSPYROLLOUTS, samples.ROLLOUT)
    await world.write_status(DSPYROLLOUTS, found, {"decisions": attempt["decisions"]})
    assert await call("explain", NAME, "--replay") == Exit.DEGRADED
    assert "DIFFERENT: decision 3: status says EvidenceOfRegression" in capsys.readouterr().out
    assert await call("plan", NAME, "--rate", "1000/s") == Exit.HEALTHY
    assert f"{NAME}: assumed, not measured" in capsys.readouterr().out
    assert await call("plan", NAME, "--rate", "1/d") == Exit.IN_PROGRESS


async def test_a_name_that_is_not_there_is_a_mistake_of_the_caller(
    world: World, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("get", "status", "history", "explain", "promote", "abort"):
        assert await call(command, "nobody") == Exit.USAGE
        assert "There is no DSPyDeployment nobody in namespace ml" in capsys.readouterr().err
