"""The story of the demo: a better program takes 10 %, 50 %, 100 % of the traffic, a worse one is rolled back.

Prometheus is the only judge. Everything that is told was watched or measured while it happened.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.demo.report import NAMESPACE, tell_summary, tell_what_next
from tests.demo.screen import CELLS, LEGEND, Screen, draw_bar, draw_evidence
from tests.demo.summary import build_entry
from tests.e2e.harness.api import Api, Object, open_api
from tests.e2e.harness.artifacts import ROOT, compile_artifacts, read_artifact
from tests.e2e.harness.installation import Installation, install
from tests.e2e.harness.pods import wait_for_weight_zero
from tests.e2e.harness.specs import NAME, build_step, build_story, build_strategy
from tests.e2e.harness.waiting import wait_for
from tests.e2e.harness.watching import RolloutWatch
from tests.e2e.harness.world import World, furnish

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.e2e.harness.views import Entry, Rollout

BUILD = ROOT / "build/demo"
VERSIONS = ("v1", "v2", "v3")
RPS = 30.0
QUIET = 2.0  # seconds between two lines while only the evidence moves
STEPS = (build_step(10, minDuration="10s"), build_step(50, minDuration="10s"), {"weight": 100})
METRICS = (
    {"name": "score", "type": "Score", "maxDrop": "5%"},
    {"name": "latency", "type": "LatencyP95", "maxIncrease": "20%"},
    {"name": "errors", "type": "ErrorRate", "maxIncreasePoints": "2"},
)


class StoryError(Exception):
    """The story took another turn; the text says which."""


def tell_story() -> None:
    """Set the scene, promote v2, roll v3 back, say what was measured."""
    screen = Screen()
    screen.plain(
        "dspy-operator: a better program is promoted, a worse one rolled back, and no request fails."
    )
    with ThreadPoolExecutor(1) as compiler:
        compiling = compiler.submit(compile_artifacts, BUILD / "artifacts", *VERSIONS)
        screen.head(
            "1  A cluster, Prometheus, the operator from its chart; meanwhile DSPy compiles three programs"
        )
        cluster, images = install()
        with open_api(cluster.kubeconfig) as api:
            installation = Installation(cluster, api, images)
            world = set_scene(screen, installation, compiling)
            try:
                rollouts = play(screen, world)
            finally:
                world.watch.stop()
    summary = {"rollouts": rollouts, "cluster": cluster.name, "seconds": round(screen.get_seconds(), 1)}
    path = BUILD / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    tell_summary(screen, summary)
    tell_what_next(screen, path, cluster.kubeconfig)
    if failed := sum(entry["requests_failed"] for entry in rollouts):
        raise StoryError(f"{failed} requests failed")


def set_scene(screen: Screen, installation: Installation, compiling: Future[str]) -> World:
    """An empty namespace with the LM provider and the clients, and the compiled programs."""
    delete_namespace(installation.api)
    screen.plain(compiling.result().rstrip())
    files = {name: BUILD / "artifacts" / f"{name}.json" for name in VERSIONS}
    artifacts = {name: read_artifact(path, name) for name, path in files.items()}
    world = World(installation, NAMESPACE, artifacts, RolloutWatch(installation.api, NAMESPACE))
    furnish(world, labels={})
    installation.wait_for_operator()
    world.watch.start()
    return world


def delete_namespace(api: Api) -> None:
    """Away with an earlier demo."""
    api.delete("Namespace", "", NAMESPACE)
    wait_for("the namespace of an earlier demo to go", lambda: not api.find("Namespace", "", NAMESPACE), 120)


def play(screen: Screen, world: World) -> list[Object]:
    """The three acts."""
    screen.head(
        f"2  The first revision, v1 {world.artifacts['v1'].version}: nothing to compare with, so it serves at once"
    )
    strategy = build_strategy(steps=STEPS, metrics=METRICS)
    world.apply(build_story(NAMESPACE, world.artifacts["v1"], strategy))
    world.wait_until_settled("v1")
    pods = world.get_identities()
    screen.say(f"{len(pods)} pods are ready and serve v1 to everybody")
    world.start_traffic(RPS)
    screen.say(f"clients send {RPS:.0f} tickets a second to http://{NAME}/ask")
    screen.head(f"3  v2 {world.artifacts['v2'].version} is applied: nothing but the artifact changes")
    screen.plain(LEGEND, "dim")
    entries = [promote(screen, world)]
    screen.head(f"4  v3 {world.artifacts['v3'].version} is applied: compiled from mislabelled examples")
    entries.append(roll_back(screen, world))
    if world.get_identities() != pods:
        raise StoryError(f"pods came or restarted: {pods} before, {world.get_identities()} after")
    screen.say(f"the same {len(pods)} pods from beginning to end, none restarted", "good")
    return entries


def promote(screen: Screen, world: World) -> Object:
    """The better program, from its application to the end of its rollout."""
    rollout = follow(screen, world, "v2")
    if rollout.phase != "Promoted":
        raise StoryError(f"v2 ended {rollout.phase}: {rollout.message}")
    world.wait_until_settled("v2")
    screen.say("v2 is stable: everybody is served by it", "good")
    return build_entry(world, rollout, world.traffic.mark("after v2"), None)


def roll_back(screen: Screen, world: World) -> Object:
    """The worse program, from its application to the end of its rollout."""
    with ThreadPoolExecutor(1) as watcher:
        reaching = watcher.submit(await_zero, world)
        rollout = follow(screen, world, "v3")
        if rollout.phase != "RolledBack":
            raise StoryError(f"v3 ended {rollout.phase}: {rollout.message}")
        seconds = reaching.result()
    screen.say(f"from the verdict to weight 0 in the last pod: {seconds:.2f} s", "good")
    world.wait("v3 rejected", lambda d: not d.canary and d.get("Ready").reason == "RolledBack")
    screen.say("v2 serves everybody; v3 stays rejected until somebody says `kubectl dspy retry`")
    return build_entry(world, rollout, world.traffic.mark("after v3"), seconds)


def await_zero(world: World) -> float:
    """Seconds from the record of the verdict on v3 to weight 0 in the last pod."""
    judged = world.wait_for_rollout(
        "v3", "is judged", lambda r: r.find_entry("RollingBack") or r.is_over, 300
    )
    verdict = judged.get_entry("RollingBack").at
    return wait_for_weight_zero(world, verdict) - verdict


@dataclass
class Teller:
    """Tells each state of one rollout once: every entry of its record, and now and then the evidence between."""

    screen: Screen
    version: str
    told: int = 0
    spoken: float = 0.0
    metrics: object = None

    def __call__(self, state: Rollout) -> None:
        """Hear of a new state."""
        if state.target != self.version:
            return
        for before, entry in zip((None, *state.entries), state.entries, strict=False):
            if entry.number > self.told:
                self.tell_entry(entry, before)
                self.told, self.metrics = entry.number, state.metrics
        is_new = state.phase == "Stepping" and state.metrics and state.metrics != self.metrics
        if is_new and time.monotonic() - self.spoken > QUIET:
            self.spoken, self.metrics = time.monotonic(), state.metrics
            self.screen.say(draw_evidence(state), "dim")

    def tell_entry(self, entry: Entry, before: Entry | None) -> None:
        """One line of the record; a reason that was told with the line before is not told again."""
        style = {"RollingBack": "bad", "Promoted": "good"}.get(entry.phase, "")
        message = "" if before and before.message == entry.message else f": {entry.message}"
        bar = f"{entry.weight:3} % {draw_bar(entry.weight / 100, CELLS)}"
        self.screen.say(f"{bar}  {entry.phase}{message}", style)


def follow(screen: Screen, world: World, name: str) -> Rollout:
    """Apply an artifact and tell what its rollout does until it is over."""
    world.traffic.mark(name)
    teller = Teller(screen, world.artifacts[name].version)
    world.watch.on_change = teller
    world.set_artifact(name)
    ended = world.wait_for_rollout(name, "has ended", lambda r: r.is_over, 300)
    wait_for("its last line", lambda: teller.told >= ended.entries[-1].number, 10)
    world.watch.on_change = lambda _: None
    return ended
