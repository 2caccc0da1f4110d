"""What each artifact of the example is worth over a long stream of tickets: what end-to-end tests should see.

Measured against `icl-95` over the tickets 0 to 19,999 of seed 1000, in process, without a network:
`python -m tests.traffic.expected DIRECTORY` measures the artifacts of a directory and prints the table anew.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.provider.learner import get_reply

if TYPE_CHECKING:
    from types import ModuleType

EXAMPLE = Path(__file__).parents[2] / "examples/support-triage"
SEED = 1000


@dataclass(frozen=True)
class Worth:
    """Shares in [0, 1]: right answers and mean of `support_triage:score`; tokens of a mean prompt."""

    accuracy: float
    score: float
    prompt_tokens: int


WORTH = {
    "v1": Worth(accuracy=0.746, score=0.754, prompt_tokens=1302),
    "v2": Worth(accuracy=0.882, score=0.889, prompt_tokens=1286),
    "v2-minus2": Worth(accuracy=0.862, score=0.872, prompt_tokens=1230),
    "v2-slow": Worth(accuracy=0.882, score=0.889, prompt_tokens=2963),
    "v3": Worth(accuracy=0.697, score=0.708, prompt_tokens=1286),
}


def load_example(name: str) -> ModuleType:
    """A module of the example's folder, which is no package because its name has a dash."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"no module {name} in {EXAMPLE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_prompt(artifact: Path) -> list[dict[str, Any]]:
    """The messages that DSPy sends for this artifact, with `TICKET` where the ticket goes."""
    from dspy.adapters import ChatAdapter  # noqa: PLC0415 - the constants above must cost no import of dspy

    program = load_example("support_triage").Triage()
    program.load(artifact)
    route = program.route
    messages: list[dict[str, Any]] = ChatAdapter().format(route.signature, route.demos, {"ticket": "TICKET"})
    return messages


def measure(artifact: Path, count: int, model: str = "icl-95") -> Worth:
    """The worth of one artifact over the first `count` tickets."""
    score, build_ticket = load_example("support_triage").score, load_example("tickets").build_ticket
    *prefix, last = build_prompt(artifact)
    right = total = tokens = 0.0
    for number in range(count):
        ticket = build_ticket(SEED, number)
        asked = {"role": "user", "content": last["content"].replace("TICKET", ticket["ticket"])}
        reply, prompt_tokens = get_reply(model, [*prefix, asked])
        queue = reply.split("\n")[1]
        right += queue == ticket["queue"]
        total += score({"ticket": ticket["ticket"]}, SimpleNamespace(queue=queue))
        tokens += prompt_tokens
    return Worth(round(right / count, 3), round(total / count, 3), round(tokens / count))


def main() -> None:
    """Print the table for every artifact of a directory."""
    for artifact in sorted(Path(sys.argv[1]).glob("v*.json")):
        print(f'    "{artifact.stem}": {measure(artifact, 20_000)},', flush=True)


if __name__ == "__main__":
    main()
