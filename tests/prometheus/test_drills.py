"""The drills of docs/drills.md that need no cluster, with its alerts and dashboards in a real Prometheus.

Each: calm without an alert, then something breaks while questions go on, and the alert fires that the page promises,
and the panel's line rises.
"""

import asyncio
import functools
import itertools
import json
import math
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
from prometheus_client import generate_latest
from tests.dashboards import ANNOTATIONS, PANELS, Panel, fill_in, get_panel
from tests.prometheus.conftest import Prometheus, wait_until
from tests.provider.icl_lm import Provider, run_provider
from tests.unit.serving.harness import ask, build_lm, run
from tests.unit.serving.worlds import World, build_artifact

from dspy_operator.rollout.judging import MetricAnswer, MetricVerdict, Reason
from dspy_operator.telemetry import Telemetry
from dspy_server import parts
from dspy_server.server import Server
from dspy_server.store import Store

pytestmark = pytest.mark.tools
DOCS = Path(__file__).parents[2] / "docs"
ALERTS, PAGE_OF_DRILLS = DOCS / "alerts.yaml", DOCS / "drills.md"
DEPLOYMENT = "triage"
SCORE = "tests.unit.serving.programs:score"
VERDICT = MetricVerdict(
    name="score",
    verdict=MetricAnswer.WAIT,
    reason=next(iter(Reason)),
    message="",
    drop=0.01,
    drop_text="1%",
    canary_samples=10,
    stable_samples=90,
    required_samples=50,
    ln_e_rollback=0,
    ln_e_promote=0,
    evidence_rollback=0.1,
    evidence_promote=0.2,
    samples_needed=None,
    dispersion=1,
    dry_run=False,
)
PAGE, OPERATOR_PAGE = "/drills", "/operator"
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
    """What is configured, what breaks, which alert fires, which line of which panel rises from 0."""

    alert: str
    panel: str
    line: dict[str, str]
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


def lose_mount(scene: Scene) -> None:
    stable = scene.world.route(0, 90, "stable")
    scene.world.write_table(stable, scene.world.route(1, 10, "canary", path="file:///gone/program.json"))


def do_nothing(_: Scene) -> None:
    """The users do it."""


DRILLS = {
    "the primary is down": Drill(
        "DspyFallback", "Fallbacks", {"reason": "server"}, fault("fail500", "icl-100"), models=LMS
    ),
    "all models are down": Drill(
        "DspyNoModel",
        "Degraded answers",
        {"kind": "refused"},
        fault("fail500"),
        {"breaker": {"failures": 3, "openFor": "60s"}},
        models=LMS,
        answers=frozenset({502, 503}),
    ),
    "the provider limits the rate": Drill(
        "DspyRateLimited",
        "LM calls",
        {"status": "rate_limit"},
        fault("fail429"),
        answers=frozenset({429, 503, 504}),
    ),
    "the cache's disk is gone": Drill(
        "DspyCacheDisk", "Cache errors", {"tier": "disk"}, lose_disk, {"cache": {"disk": {"enabled": True}}}
    ),
    "Redis is down": Drill(
        "DspyRedis",
        "Cache errors",
        {"tier": "business"},
        lose_redis,
        {"cache": {"scope": "Shared"}},
        has_redis=True,
    ),
    "a user is greedy": Drill(
        "DspyUserRefused",
        "Refused requests",
        {"reason": "user_rate"},
        do_nothing,
        {"limits": {"perUserRequestsPerMinute": 3}},
        answers=frozenset({200, 429}),
    ),
    "a canary is no program": Drill(
        "DspyProgramRefused", "Programs in the pods", {"state": "refused"}, send_bad_canary
    ),
    "where the programs lie is away": Drill(
        "DspyProgramAwaited", "Programs in the pods", {"state": "waiting"}, lose_mount
    ),
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


def read_panel(prometheus: Prometheus, drill: Drill, namespace: str) -> float:
    """What the drill's line of its panel shows now; 0 without such a line."""
    return sum(
        float(row["value"][1])
        for query in get_panel(drill.panel).queries
        for row in prometheus.ask(fill_in(query, namespace, DEPLOYMENT))
        if drill.line.items() <= row["metric"].items()
    )


def test_the_page_names_the_panel_beside_the_alert() -> None:
    page = PAGE_OF_DRILLS.read_text()
    for drill in DRILLS.values():
        assert f"| `{drill.alert}` | `{drill.panel}` |" in page


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
            assert read_panel(prometheus, drill, namespace) == 0
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
            await _watch(server, prometheus, lambda: read_panel(prometheus, drill, namespace) > 0)
            asking.cancel()
    for query in ANNOTATIONS:
        marks = prometheus.ask(fill_in(query, namespace, DEPLOYMENT))
        assert drill.alert in {mark["metric"]["alertname"] for mark in marks}
    assert statuses & drill.answers
    assert statuses <= drill.answers | {200}


async def _watch(
    server: Server, prometheus: Prometheus, condition: Callable[[], object], what: str = ""
) -> None:
    """Keep the page that is scraped up to date until it is so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        prometheus.pods.texts[PAGE] = server.metrics.render().decode()
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"it has not come to pass: {what}")


def _count_scrapes(prometheus: Prometheus, namespace: str) -> int:
    rows = prometheus.ask(f'count_over_time(dspy_build_info{{namespace="{namespace}"}}[1m])')
    return int(float(rows[0]["value"][1])) if rows else 0


async def test_every_panel_has_data_while_everything_breaks(prometheus: Prometheus, scene: Scene) -> None:
    namespace, operator = "everything", Telemetry()
    prometheus.scrape(
        [
            {"path": PAGE, "namespace": namespace, "pod": "server", "job": PAGE},
            {"path": OPERATOR_PAGE, "namespace": "dspy-operator", "pod": "operator", "job": OPERATOR_PAGE},
        ]
    )
    serving = {"cache": {"disk": {"enabled": True}}, "limits": {"perUserRequestsPerMinute": 3}}
    scene.world.fill_slot(1, b"no program")
    scene.world.fill_slot(2, scene.world.slot_path(0).read_bytes())
    with run_provider(scene.provider) as url:
        config = build_lm(url, *LMS, timeout="5s") | {"serving": serving, "scoring": {"function": SCORE}}
        async with run(scene.world, url, config, **FALLBACK_KEY) as (server, client):
            await _watch(server, prometheus, lambda: _count_scrapes(prometheus, namespace) >= 3)
            scene.world.split(20)
            scene.provider.set_faults({"icl-100": {"fault": "fail500"}})

            async def go_on() -> None:
                for asked in itertools.count():
                    server.keeper.poll()
                    await ask(
                        client, f"question {asked}", X_User_Id=f"user {asked}" if asked % 5 else "greedy"
                    )
                    _work(operator)
                    prometheus.pods.texts[OPERATOR_PAGE] = generate_latest(operator.registry).decode()
                    await asyncio.sleep(PAUSE)

            async def watch_panels(*panels: Panel) -> None:
                for query in itertools.chain.from_iterable(panel.queries for panel in panels):
                    text = fill_in(query, namespace, DEPLOYMENT)
                    await _watch(server, prometheus, functools.partial(_has_data, prometheus, text), text)

            asking = asyncio.create_task(go_on())
            await watch_panels(get_panel("Answered by stable instead"))
            scene.world.write_table(scene.world.route(0, 80, "stable"), scene.world.route(2, 20, "canary"))
            await watch_panels(*PANELS)
            asking.cancel()
    prometheus.scrape([])


def _has_data(prometheus: Prometheus, query: str) -> bool:
    return any(math.isfinite(float(row["value"][1])) for row in prometheus.ask(query))


def _work(operator: Telemetry) -> None:
    """One pass of an operator, as `reconcile/reporting.py` reports it, which also rolls back and fails."""
    operator.show_rollout("everything", DEPLOYMENT, "Stepping", 20)
    operator.show_metric("everything", DEPLOYMENT, VERDICT)
    operator.count_query("failed")
    operator.count_reconcile_error("Transient")
    operator.count_rollout("RolledBack", 60)
    operator.observe_rollback(1.0)
    with operator.time_pass():
        pass


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
