"""Compiles the example into artifacts of different quality, measures each, and prints a table.

Works with any model that DSPy knows (`--model`) and any OpenAI-compatible endpoint (`--api-base`); the key is
read from the variable LM_API_KEY. With the in-context learner of `tests/provider` runs repeat byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal, get_args

import dspy
from dspy.teleprompt import BootstrapFewShot, LabeledFewShot
from support_triage import Queue, Triage, metric, score

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
DEMOS, BOOTSTRAPPED = 16, 4
# Which of v2's demonstrations the derived artifacts spoil, chosen by measuring: about 20 % and 2 % below v2.
WRONG_LABELS = (4, 7, 10, 14)
LEFT_OUT = (14,)
OFFICES = (
    *("Lisbon", "Porto", "Madrid", "Seville", "Paris", "Lyon", "Milan", "Turin", "Vienna", "Graz", "Berlin"),
    *("Bremen", "Oslo", "Bergen", "Turku", "Tartu", "Riga", "Vilnius", "Gdynia", "Brno", "Zagreb", "Split"),
    *(
        "Athens",
        "Patras",
        "Dublin",
        "Cork",
        "Leeds",
        "Bristol",
        "Cardiff",
        "Ghent",
        "Liege",
        "Utrecht",
        "Breda",
    ),
    *("Basel", "Bern", "Aarhus", "Odense", "Malmo", "Uppsala"),
)
OFFICE_RULE = (
    "The office in {office} opens at eight, closes at six and answers within two working days; in {office} a "
    "ticket that arrives on a weekend or a public holiday waits until the next working day, when it is first."
)


@dataclass(frozen=True)
class Recipe:
    """How to make one artifact, and what a release of it would look like to its author."""

    name: str
    story: str
    build: Callable[[list[dspy.Example]], Triage]


@dataclass(frozen=True)
class Artifact:
    """One written file and how good it is on the canary set; accuracy and score are shares in [0, 1]."""

    name: str
    file: str
    sha256: str
    bytes: int
    accuracy: float
    score: float


def compile_labeled(train: list[dspy.Example]) -> Triage:
    """Sixteen labelled tickets in the prompt, picked blindly."""
    program: Triage = LabeledFewShot(k=DEMOS).compile(Triage(), trainset=train)
    return program


def compile_bootstrapped(train: list[dspy.Example]) -> Triage:
    """Four demonstrations that the teacher solved, twelve labelled ones."""
    optimizer = BootstrapFewShot(metric=metric, max_bootstrapped_demos=BOOTSTRAPPED, max_labeled_demos=DEMOS)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):  # its progress bar
        program: Triage = optimizer.compile(Triage(), trainset=train)
    return program


def compile_mislabelled(train: list[dspy.Example]) -> Triage:
    """The second program after a careless clean-up: some labels moved to the next queue."""
    program = compile_bootstrapped(train)
    queues = get_args(Queue)
    for number in WRONG_LABELS:
        demo = program.route.demos[number]
        wrong = queues[(queues.index(demo.queue) + 1) % len(queues)]
        program.route.demos[number] = demo.copy(queue=wrong)
    return program


def compile_shorter(train: list[dspy.Example]) -> Triage:
    """The second program with a demonstration less."""
    program = compile_bootstrapped(train)
    program.route.demos = [d for n, d in enumerate(program.route.demos) if n not in LEFT_OUT]
    return program


def compile_verbose(train: list[dspy.Example]) -> Triage:
    """The second program with the office handbook pasted into its instructions: as good, slower."""
    program = compile_bootstrapped(train)
    handbook = "\n".join(OFFICE_RULE.format(office=office) for office in OFFICES)
    signature = program.route.signature
    program.route.signature = signature.with_instructions(f"{signature.instructions}\n\n{handbook}")
    return program


RECIPES = (
    Recipe("v1", "16 labelled demos", compile_labeled),
    Recipe("v2", "bootstrapped: 4 solved + 12 labelled demos", compile_bootstrapped),
    Recipe("v3", "v2 with 4 labels changed: about 20 % worse", compile_mislabelled),
    Recipe("v2-minus2", "v2 with one demo less: about 2 % worse", compile_shorter),
    Recipe("v2-slow", "v2 with a long handbook: as good, 2.3 times the prompt", compile_verbose),
)


class RouteForCustomer(dspy.Signature):
    """Another program's signature, to show what the server refuses."""

    ticket: str = dspy.InputField()
    customer: str = dspy.InputField()
    queue: Literal["billing", "shipping"] = dspy.OutputField()


class OtherTriage(dspy.Module):
    """A program with the same predictor and other fields."""

    def __init__(self) -> None:
        super().__init__()
        self.route = dspy.Predict(RouteForCustomer)


def write_bad(out: Path) -> None:
    """Files that must never get traffic: no program at all, and the state of a program with other fields."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "not-a-program.json").write_text('{"hello": "world"}\n')
    OtherTriage().save(out / "other-signature.json")


def load_examples(path: Path) -> list[dspy.Example]:
    """Labelled tickets from JSON lines, plain or in the form of the regression gate."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    plain = [row["inputs"] | row["gold"] if "gold" in row else row for row in rows]
    return [dspy.Example(**row).with_inputs("ticket") for row in plain]


def write_artifact(recipe: Recipe, train: list[dspy.Example], out: Path) -> Path:
    """Compile and save one artifact; raises ValueError if it would carry an LM of its own."""
    path = out / f"{recipe.name}.json"
    recipe.build(train).save(path)
    if any(predictor.get("lm") for predictor in json.loads(path.read_text()).values()):
        raise ValueError(f"{path} embeds an LM: compile under dspy.context(lm=...), never set program.lm")
    return path


def measure(path: Path, examples: list[dspy.Example]) -> Artifact:
    """Load an artifact and run it over the examples; judged by `metric` and by the ruler `score`."""
    program = Triage()
    program.load(path)
    result = dspy.Evaluate(devset=examples, metric=metric, num_threads=4, display_progress=False)(program)
    scores = [score(dict(example.inputs()), prediction) for example, prediction, _ in result.results]
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return Artifact(path.stem, path.name, digest, len(data), result.score / 100, round(fmean(scores), 4))


def print_row(artifact: Artifact, story: str) -> None:
    """One line of the table."""
    numbers = f"{artifact.accuracy:>8.1%} {artifact.score:>7.3f}"
    print(f"{artifact.name:<10} {numbers}  {artifact.sha256[:12]} {artifact.bytes:>7}  {story}", flush=True)


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openai/icl-95", help="default: %(default)s")
    parser.add_argument(
        "--api-base", help="for example http://127.0.0.1:8000/v1; default: the provider's own"
    )
    parser.add_argument("--out", type=Path, default=Path("build/demo/artifacts"), help="default: %(default)s")
    parser.add_argument("--data", type=Path, default=HERE / "data", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=[r.name for r in RECIPES], help="default: all")
    return parser.parse_args()


def main() -> None:
    """Compile, measure, print; also writes `artifacts.json` and `bad/` beside the artifacts."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "LITELLM_LOCAL_MODEL_COST_MAP", "True"
    )  # prices need no download: nobody asks for them
    logging.getLogger("dspy.evaluate").setLevel(logging.WARNING)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    key = os.environ.get("LM_API_KEY", "no-key-needed")
    lm = dspy.LM(arguments.model, api_base=arguments.api_base, api_key=key, cache=False)
    train, canary = (load_examples(arguments.data / f"{name}.jsonl") for name in ("train", "canary"))
    print(f"{'artifact':<10} {'accuracy':>8} {'score':>7}  {'version':<12} {'bytes':>7}  what it is")
    rows: dict[str, dict[str, object]] = {}
    with dspy.context(lm=lm):
        for recipe in RECIPES:
            if arguments.only is None or recipe.name in arguments.only:
                artifact = measure(write_artifact(recipe, train, arguments.out), canary)
                print_row(artifact, recipe.story)
                rows[recipe.name] = vars(artifact)
    (arguments.out / "artifacts.json").write_text(json.dumps(rows, indent=2) + "\n")
    write_bad(arguments.out / "bad")


if __name__ == "__main__":
    main()
