"""A pod's folders without a pod: the routing table, the programs' slots, the configuration; and our server on them."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.server.processes import Served, start
from bench.server.programs import DEMOS, Triage, build_demos
from tests.servers import get_free_port

MODULE = "bench.server.programs:Triage"
WORKLOAD = "aaaaaaaa"
KEY = "sk-0123456789abcdef0123"
CONCURRENCY = 64
SERVE = ("-m", "dspy_server.cli", "serve")


@dataclass
class Pod:
    """Folders below `root`; `start` runs the server on them."""

    root: Path
    provider: str
    redis: str = ""
    generation: int = 0
    shas: dict[int, str] = field(default_factory=dict)

    def fill_slot(self, slot: int, *, demos: int = DEMOS) -> None:
        """Write an artifact with so many demonstrations, each slot's its own."""
        program = Triage()
        found = build_demos()
        program.route.demos = [
            found[number % DEMOS].copy(ticket=f"{slot}/{number}: {found[number % DEMOS].ticket}")
            for number in range(demos)
        ]
        path = self.root / "programs" / str(slot) / "program.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        program.save(path)
        self.shas[slot] = hashlib.sha256(path.read_bytes()).hexdigest()

    def write_table(self, weights: dict[int, int]) -> int:
        """Put a newer table in place, the first slot's program being stable; its generation."""
        self.generation += 1
        routes = [
            {
                "revision": f"rev{slot}",
                "workload": WORKLOAD,
                "module": MODULE,
                "sha256": self.shas[slot],
                "track": "canary" if index else "stable",
                "weight": weight,
                "path": str(self.root / "programs" / str(slot) / "program.json"),
            }
            for index, (slot, weight) in enumerate(weights.items())
        ]
        table = {"generation": self.generation, "program": "triage", "userHeader": "X-User-Id"}
        temporary = self.root / "routes.new"
        temporary.write_text(json.dumps(table | {"overrideHeader": "", "routes": routes}))
        temporary.rename(self.root / "routes.json")
        return self.generation

    def build_config(self, limits: dict[str, Any]) -> dict[str, Any]:
        """Everything on that production has on."""
        models = [
            {"model": f"openai/{name}", "apiBase": f"{self.provider}/v1"} for name in ("const", "other")
        ]
        users = {"perUserRequestsPerMinute": 1_000_000, "perUserTokensPerDay": 1_000_000_000}
        return {
            "module": MODULE,
            "lm": {"primary": models[0], "fallbacks": models[1:], "timeout": "30s"},
            "serving": {"limits": {"concurrency": CONCURRENCY, **users, **limits}},
            "scoring": {"function": "bench.server.programs:score"},
        }

    def start(self, name: str, *, command: tuple[str, ...] = SERVE, **limits: Any) -> Served:
        """Run the server and wait until it is ready."""
        port, metrics = get_free_port(), get_free_port()
        env = {
            "DSPY_SERVER_CONFIG": json.dumps(self.build_config(limits)),
            "DSPY_PROGRAM": "triage",
            "DSPY_WORKLOAD": WORKLOAD,
            "DSPY_ROUTES": str(self.root / "routes.json"),
            "DSPY_PROGRAMS_ROOT": str(self.root / "programs"),
            "DSPY_SOURCE": str(self.root / "source"),
            "DSPY_LM_KEY_0": KEY,
            "DSPY_LM_KEY_1": KEY,
            "DSPY_REDIS_URL": self.redis,
            "DSPY_HOST": "127.0.0.1",
            "DSPY_PORT": str(port),
            "DSPY_METRICS_PORT": str(metrics),
            "DSPY_SHUTDOWN_DELAY": "100ms",
        }
        return start(name, list(command), port, env=env, probe="/ready", log=self.root / f"{name}.log")


def open_pod(root: Path, provider: str, *, programs: int = 1, redis: str = "") -> Pod:
    """Folders with one program at 100 %, or two at 50 % each; `redis` is the address of one."""
    root.mkdir(parents=True)
    pod = Pod(root, provider, redis)
    for slot in range(programs):
        pod.fill_slot(slot)
    pod.write_table(dict.fromkeys(range(programs), 100 // programs))
    return pod
