"""The drills of docs/drills.md that need no cluster, with the alerts of docs/alerts.yaml in a real Prometheus.

Each: calm without an alert, then something breaks while questions go on, and the alert fires that the page promises.
"""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import yaml
from fakeredis import FakeAsyncRedis
from tests.prometheus.conftest import Prometheus, wait_until
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.worlds import World, build_artifact

from dspy_server import parts
from dspy_server.server import Server
from dspy_server.store import Store

pytestmark = pytest.mark.tools
ALERTS = Path(__file__).parents[2] / "docs/alerts.yaml"
PAGE = "/drills"
PATIENCE = 60.0
PAUSE = 0.05
"""Between two questions: Prometheus and the page that it scrapes need the processor too."""
LMS = ("openai/icl-100", "openai/icl-90")
FALLBACK_KEY = {"DSPY_LM_KEY_1": "sk-other"}


@dataclass
class Scene:
    """What a drill may break."""

    world: World
    provider: Provider
    redis: fakeredis.FakeServer


@dataclass(frozen=True)
class Drill:
    """What is configured, what breaks, which alert fires."""

    alert: str
    wreck: Callable[[Scene], None]
    serving: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = LMS[:1]
    has_redis: bool = False
    answers: frozenset[int] = frozenset({200})


def fault(kind: str, model: str = "*") -> Callable[[Scene], None]:
    return lambda scene: scene.provider.set_faults({model: {"fault": kind}})


def lose_disk(scene: Scene) -> None:
    shutil.rmtree(scene.world.root / "cache")
    (scene.world.root / "cache").write_text("no folder")


def lose_redis(scene: Scene) -> None:
    scene.redis.connected = False


def send_bad_canary(scene: Scene) -> None:
    scene.world.fill_slot(1, b'{"route": {"lm": {"api_base": "http://evil"}}}')
    scene.world.split(10)


def do_nothing(_: Scene) -> None:
    """The users do it."""


DRILLS = {
    "the primary is down": Drill("DspyFallback", fault("fail500", "icl-100"), models=LMS),
    "all models are down": Drill(
        "DspyNoModel",
        fault("fail500"),
        {"breaker": {"failures": 3, "openFor": "60s"}},
        models=LMS,
        answers=frozenset({502, 503}),
    ),
    "the provider limits the rate": Drill(
        "DspyRateLimited", fault("fail429"), answers=frozenset({429, 503, 504})
    ),
    "the cache's disk is gone": Drill("DspyCacheDisk", lose_disk, {"cache": {"disk": {"enabled": True}}}),
    "Redis is down": Drill("DspyRedis", lose_redis, {"cache": {"scope": "Shared"}}, has_redis=True),
    "a user is greedy": Drill(
        "DspyUserRefused",
        do_nothing,
        {"limits": {"perUserRequestsPerMinute": 3}},
        answers=frozenset({200, 429}),
    ),
    "a canary is no program": Drill("DspyProgramRefused", send_bad_canary),
}


@pytest.fixture
def rules(prometheus: Prometheus, tmp_path: Path) -> Iterator[Path]:
    """Our alerts, each as soon as its condition holds."""
    document = yaml.safe_load(ALERTS.read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document))
    prometheus.configure(rule_files=[str(file)])
    yield file
    prometheus.scrape([])
    prometheus.configure()


@pytest.fixture
def scene(world: World, monkeypatch: pytest.MonkeyPatch) -> Scene:
    redis = fakeredis.FakeServer()
    monkeypatch.setattr(parts, "build_client", lambda _url: FakeAsyncRedis(server=redis))
    monkeypatch.setattr(parts, "Store", lambda client, clock: Store(client, clock, timeout=30.0))
    return Scene(world, Provider(), redis)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "pod")
    world.root.mkdir()
    world.fill_slot(0, build_artifact(tmp_path, "billing"))
    world.routes_file.parent.mkdir()
    world.write_table(world.route(0, 100, "stable"))
    return world


def is_firing(prometheus: Prometheus, alert: str, namespace: str) -> bool:
    labels = f'alertname="{alert}",namespace="{namespace}",alertstate="firing"'
    return bool(prometheus.ask(f"ALERTS{{{labels}}}"))


@pytest.mark.parametrize("name", DRILLS)
@pytest.mark.usefixtures("rules")
async def test_the_alert_of_a_drill_fires_and_not_before(
    prometheus: Prometheus, scene: Scene, name: str
) -> None:
    drill, namespace = DRILLS[name], name.replace(" ", "-")
    prometheus.scrape([{"path": PAGE, "namespace": namespace, "job": PAGE}])
    with run_provider(scene.provider) as url:
        config = build_lm(url, *drill.models, timeout="5s") | {"serving": drill.serving}
        env = FALLBACK_KEY | ({"DSPY_REDIS_URL": "redis://redis:6379/0"} if drill.has_redis else {})
        async with run(scene.world, url, config, **env) as (server, client):
            await _watch(server, prometheus, lambda: _count_scrapes(prometheus, namespace) >= 3)
            assert (await ask(client, "calm", X_User_Id="greedy")).status_code == 200
            await _watch(server, prometheus, lambda: _count_scrapes(prometheus, namespace) >= 5)
            assert not is_firing(prometheus, drill.alert, namespace)
            drill.wreck(scene)
            statuses: set[int] = set()

            async def go_on() -> None:
                asked = 0
                while True:
                    server.keeper.poll()
                    asked += 1
                    statuses.add((await ask(client, f"question {asked}", X_User_Id="greedy")).status_code)
                    await asyncio.sleep(PAUSE)

            asking = asyncio.create_task(go_on())
            await _watch(server, prometheus, lambda: is_firing(prometheus, drill.alert, namespace))
            asking.cancel()
    assert statuses & drill.answers
    assert statuses <= drill.answers | {200}


async def _watch(server: Server, prometheus: Prometheus, condition: Callable[[], bool]) -> None:
    """Keep the page that is scraped up to date until it is so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        prometheus.pods.texts[PAGE] = server.metrics.render().decode()
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it has not come to pass")


def _count_scrapes(prometheus: Prometheus, namespace: str) -> int:
    rows = prometheus.ask(f'count_over_time(dspy_build_info{{namespace="{namespace}"}}[1m])')
    return int(float(rows[0]["value"][1])) if rows else 0


def test_every_rule_can_be_evaluated_and_an_operator_that_is_gone_is_missed(
    prometheus: Prometheus, rules: Path
) -> None:
    names = {
        rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]
    }

    def list_healthy() -> set[str]:
        groups = json.loads(prometheus.get("/api/v1/rules"))["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}

    wait_until(lambda: list_healthy() == names, f"healthy rules: {sorted(names)}")
    wait_until(lambda: is_firing(prometheus, "DspyOperatorGone", ""), "no operator runs here")
