"""A world: one namespace with an LM provider, clients, all artifacts, and a DSPyDeployment that a story changes.

`open_world` makes one and removes it; when a story fails, everything there is to see is written down first.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.builds import tool
from tests.e2e.harness.artifacts import build_code, build_program, get_artifacts
from tests.e2e.harness.installation import Installation, is_ready
from tests.e2e.harness.specs import NAME, build_story, with_artifact
from tests.e2e.harness.traffic import Traffic
from tests.e2e.harness.views import Deployment, Rollout, read_deployment, read_rollout
from tests.e2e.harness.waiting import POLL, wait_for
from tests.e2e.harness.watching import RolloutWatch
from tests.provider.manifest import build_provider_objects
from tests.traffic.manifest import build_traffic_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.e2e.harness.api import Api, Object
    from tests.e2e.harness.artifacts import Artifact

MARK = "dspy-operator.io/stories"  # its value: the process id of the run
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SERVING = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=server"
RPS = 30.0
FIRST_RPS = 5.0
READY_SECONDS = 150.0


@dataclass
class World:
    """One namespace; `spec` is the DSPyDeployment as it was applied last, `clients` the pod that asks."""

    installation: Installation
    namespace: str
    artifacts: Mapping[str, Artifact]
    watch: RolloutWatch
    spec: Object = field(default_factory=dict)
    clients: str = "traffic"

    @property
    def api(self) -> Api:
        """The API server."""
        return self.installation.api

    @property
    def traffic(self) -> Traffic:
        """The clients."""
        return Traffic(self.api, self.namespace, self.clients)

    # what a user does

    def apply(self, spec: Object) -> None:
        """Apply the DSPyDeployment."""
        self.spec = spec
        self.api.apply(spec)

    def apply_story(self, artifact: str, strategy: Object | None = None) -> None:
        """Apply the stories' DSPyDeployment with an artifact and a strategy."""
        self.apply(build_story(self.namespace, self.artifacts[artifact], strategy))

    def set_artifact(self, name: str) -> Artifact:
        """Change nothing but the artifact."""
        artifact = self.artifacts[name]
        self.apply(with_artifact(self.spec, artifact))
        return artifact

    def delete_and_wait(self, kind: str, name: str, seconds: float, *, poll: float = POLL) -> Object:
        """Delete what the operator made; the one that comes instead."""
        old = self.api.get(kind, self.namespace, name)["metadata"]["uid"]
        self.api.delete(kind, self.namespace, name)

        def find() -> Object | None:
            new = self.api.find(kind, self.namespace, name)
            return new if new and new["metadata"]["uid"] != old else None

        return wait_for(f"{kind} {name} again", find, seconds, tell=self.tell, poll=poll)

    def dspy(self, *arguments: str, expect: int = 0) -> str:
        """`kubectl dspy …` as a person would type it; returns what it prints."""
        kubectl = tool("kubectl")
        path = os.pathsep.join([str(Path(sys.executable).parent), str(kubectl.parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "KUBECONFIG": str(self.installation.cluster.kubeconfig)}
        command = [str(kubectl), "dspy", *arguments, "--namespace", self.namespace]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=180
        )
        told = done.stdout + done.stderr
        assert done.returncode == expect, (
            f"kubectl dspy {' '.join(arguments)}: exit {done.returncode}\n{told}"
        )
        return told

    # what there is to see

    def get(self) -> Deployment:
        """The DSPyDeployment."""
        return read_deployment(self.api.get("DSPyDeployment", self.namespace, NAME))

    def list_rollouts(self) -> list[Rollout]:
        """All attempts, the oldest first."""
        found = [read_rollout(obj) for obj in self.api.list_("DSPyRollout", self.namespace)]
        return sorted(found, key=lambda rollout: rollout.created_at)

    def find_rollout(self, target: str, attempt: int = 1) -> Rollout | None:
        """The attempt at an artifact, by the artifact's name."""
        version = self.artifacts[target].version
        return next((r for r in self.list_rollouts() if (r.target, r.attempt) == (version, attempt)), None)

    def list_pods(self) -> list[Object]:
        """The serving pods."""
        return self.api.list_("Pod", self.namespace, SERVING)

    def get_identities(self) -> dict[str, int]:
        """Uid and restart count of each serving pod: equal before and after means that nothing restarted."""
        return {
            pod["metadata"]["uid"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
            for pod in self.list_pods()
        }

    def list_events(self) -> list[Object]:
        """Events of the namespace, the oldest first."""
        found = self.api.list_("Event", self.namespace)
        return sorted(found, key=lambda event: str(event["metadata"]["creationTimestamp"]))

    def list_event_reasons(self) -> set[str]:
        """Reasons of the events of the DSPyDeployment."""
        return {e["reason"] for e in self.list_events() if e["regarding"]["kind"] == "DSPyDeployment"}

    # waiting

    def wait(
        self, what: str, is_so: Callable[[Deployment], object], seconds: float = READY_SECONDS
    ) -> Deployment:
        """The DSPyDeployment once it is so."""

        def look() -> Deployment | None:
            found = self.get()
            return found if is_so(found) else None

        return wait_for(what, look, seconds, tell=self.tell)

    def wait_for_rollout(
        self,
        target: str,
        what: str,
        is_so: Callable[[Rollout], object],
        seconds: float = READY_SECONDS,
        *,
        attempt: int = 1,
    ) -> Rollout:
        """The attempt at an artifact once it is so."""

        def look() -> Rollout | None:
            found = self.find_rollout(target, attempt)
            return found if found and is_so(found) else None

        return wait_for(f"{target} (attempt {attempt}) {what}", look, seconds, tell=self.tell)

    def wait_for_end(
        self, target: str, phase: str, seconds: float = READY_SECONDS, *, attempt: int = 1
    ) -> Rollout:
        """The attempt once it has ended; AssertionError when it ended otherwise."""
        found = self.wait_for_rollout(target, "has ended", lambda r: r.is_over, seconds, attempt=attempt)
        assert found.phase == phase, (
            f"{target} ended {found.phase}, not {phase}: {found.message}\n{found.entries}"
        )
        return found

    def wait_for_step(
        self, target: str, step: int, seconds: float = READY_SECONDS, *, attempt: int = 1
    ) -> Rollout:
        """The attempt once the weight of a step is in effect in every pod."""
        return self.wait_for_rollout(
            target,
            f"at step {step} with its weight in effect",
            lambda r: r.phase == "Stepping" and r.step == step and r.weight_effective_at,
            seconds,
            attempt=attempt,
        )

    def wait_until_settled(self, artifact: str, seconds: float = READY_SECONDS) -> Deployment:
        """Healthy with that artifact as stable."""
        version = self.artifacts[artifact].version
        return self.wait(
            f"{artifact} is stable, Ready", lambda d: d.is_healthy and d.stable == version, seconds
        )

    def start(self, artifact: str = "v1", strategy: Object | None = None) -> None:
        """Apply the first revision and wait until it serves and clients are answered."""
        self.apply_story(artifact, strategy)
        self.wait_until_settled(artifact)
        self.start_traffic()

    def start_traffic(self, rps: float = RPS) -> None:
        """Let the clients begin, slowly until the first answer, and wait until a hundred more were answered."""
        before = self.traffic.get_answered()
        self.traffic.set_rate(FIRST_RPS)
        wait_for("the first answer", lambda: self.traffic.get_answered() > before, 60, tell=self.tell)
        self.traffic.set_rate(rps)
        wait_for("a hundred answers", lambda: self.traffic.get_answered() > before + 100, 60, tell=self.tell)

    # failures

    def tell(self) -> str:
        """What a person would look at: status, attempts, pods, events, the operator's log."""
        parts = [f"namespace {self.namespace}"]
        with suppress(Exception):
            parts.append(str(self.get()))
        with suppress(Exception):
            parts += [
                f"rollout {r.name}: {r.phase} step {r.step} at {r.weight} %: {r.reason}: {r.message}\n  "
                + "\n  ".join(m.message for m in r.metrics.values())
                for r in self.list_rollouts()
            ]
        with suppress(Exception):
            parts += [
                f"pod {p['metadata']['name']}: {p['status']['phase']}, ready {is_ready(p)}"
                for p in self.list_pods()
            ]
        with suppress(Exception):
            parts += [f"event {e['reason']}: {e.get('note', '')}" for e in self.list_events()[-12:]]
        with suppress(Exception):
            parts.append("operator's log:\n" + self.installation.read_operator_log(25))
        return "\n".join(parts)


def build_surroundings(namespace: str, images: Mapping[str, str]) -> list[Object]:
    """The LM provider, its key, the code, the clients."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "llm", "namespace": namespace},
        "stringData": {"openai": "local-learner-needs-no-key"},
    }
    url = f"http://{NAME}/ask"
    return [
        secret,
        build_code(namespace),
        *build_provider_objects(namespace, images["python"]),
        *build_traffic_objects(namespace, images["python"], url, rps=0, options=("--feedback", "0.1")),
    ]


def build_namespace(name: str, labels: Mapping[str, str]) -> Object:
    """A namespace in which only restricted pods may run."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": RESTRICTED | dict(labels)},
    }


def delete_abandoned(api: Api) -> None:
    """Delete the namespaces of runs that were ended before they could clean up."""
    for namespace in api.list_("Namespace", labels=MARK):
        owner = namespace["metadata"]["labels"][MARK]
        if not Path("/proc", owner).exists():
            api.delete("Namespace", "", namespace["metadata"]["name"])


def furnish(world: World, labels: Mapping[str, str]) -> None:
    """Make and fill the namespace and wait until provider and clients are ready; nobody asks anything yet."""
    api, namespace = world.api, world.namespace
    api.apply(build_namespace(namespace, labels), *build_surroundings(namespace, world.installation.images))
    api.apply(*(build_program(namespace, artifact) for artifact in world.artifacts.values()))

    def are_ready() -> bool:
        pods = api.list_("Pod", namespace)
        return len(pods) >= 2 and all(is_ready(pod) for pod in pods)

    wait_for("provider and clients", are_ready, READY_SECONDS, tell=world.tell)


@contextmanager
def open_world(installation: Installation, story: str) -> Iterator[World]:
    """A furnished world of its own for one story or file; its namespace goes when it is over."""
    namespace = f"{story}-{secrets.token_hex(3)}"
    watch = RolloutWatch(installation.api, namespace)
    world = World(installation, namespace, get_artifacts(), watch)
    try:
        furnish(world, {MARK: str(os.getpid())})
        watch.start()
        yield world
    finally:
        watch.stop()
        installation.api.delete("Namespace", "", namespace)
