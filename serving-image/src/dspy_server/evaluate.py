"""The regression gate's measurement: both programs on the same examples, side by side, against the real model.

`eval_command.py` starts it; what the numbers mean is said by `verdict.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dspy_server import adapter, artifact, compat, logs, program, targets
from dspy_server.call import asking, classify, open_call
from dspy_server.errors import NO_LM, SignatureError
from dspy_server.examples import Example, ExamplesError, ExampleSet
from dspy_server.lm import LmChoices, build_lm, find_choices
from dspy_server.metrics import Metrics
from dspy_server.program import Program
from dspy_server.sampling import get_score
from dspy_server.schema import InputError
from dspy_server.settings import Settings
from dspy_server.verdict import Outcome, Pair, Result, Rule, Subject, is_hopeless, judge

_REVISION: Final = "gate"
_ALONE: Final = "stable's artifact does not fit this code, so only a minScore can be asked"

Metric = Callable[..., Any]
"""(example, prediction) -> float, as in `dspy.Evaluate`."""


class MetricError(ValueError):
    """The metric failed on every answer: the fault is its own."""


@dataclass(frozen=True)
class Plan:
    """What is to be compared.

    Attributes:
        canary, stable: bytes of the artifacts; no stable one for a first revision.
        concurrency: examples at once, each with a call of both programs.
        stable_may_differ: stable ran other code; if it does not fit this one, the floor of the rule alone is asked.
    """

    examples: ExampleSet
    canary: bytes
    stable: bytes | None
    module: str
    metric: Metric
    rule: Rule
    concurrency: int = 8
    stable_may_differ: bool = False


@dataclass
class _Bench:
    """What both programs run on, and how often the metric gave no score."""

    lm: Any
    adapter: Any
    timeout: float
    workers: ThreadPoolExecutor
    metric: Metric
    choices: LmChoices | None = None
    answers: int = 0
    metric_errors: list[str] = field(default_factory=list)


async def evaluate(settings: Settings, plan: Plan) -> Result:
    """Run the gate once.

    Raises:
        SettingsError: a model cannot be reached by what is configured.
        LoadError: an artifact is refused.
        ExamplesError: inputs that the program does not take.
        MetricError: no answer has a score.
    """
    async with _open_bench(settings, plan) as bench:
        canary = _load(settings, plan, plan.canary, bench)
        stable = _load_stable(settings, plan, bench)
        programs = [canary, *([stable] if stable else [])]
        inputs = [_parse(plan.examples, item) for item in programs]
        pairs = await _measure(bench, plan, programs, inputs)
        if bench.answers and len(bench.metric_errors) == bench.answers:
            raise MetricError(f"the metric gave no score for any answer: {bench.metric_errors[0]}")
    subject = Subject(
        len(plan.examples.examples),
        plan.examples.sha256,
        canary.sha256,
        stable.sha256 if stable else None,
    )
    result = judge(plan.rule, subject, sorted(pairs, key=lambda pair: pair.line))
    result.numbers["metricErrors"] = len(bench.metric_errors)
    if plan.stable is not None and stable is None:
        return replace(result, message=f"{result.message}; {_ALONE}")
    return result


@asynccontextmanager
async def _open_bench(settings: Settings, plan: Plan) -> AsyncIterator[_Bench]:
    config = settings.config
    lms = targets.build_targets(settings, asyncio.get_running_loop().time)
    metrics = Metrics(_REVISION, [lm.model for lm in lms])
    chat = adapter.build_adapter(metrics, parse_retry=config.serving.parse_retry)
    workers = ThreadPoolExecutor(2 * plan.concurrency, thread_name_prefix="program")
    lm = build_lm(config.lm, lms, metrics)
    choices = find_choices(config, lms, metrics)
    try:
        yield _Bench(lm, chat, config.lm.timeout, workers, plan.metric, choices)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)
        await targets.close_targets(lms)


def _load(settings: Settings, plan: Plan, data: bytes, bench: _Bench) -> Program:
    return program.load_program(
        data,
        revision=_REVISION,
        sha256=artifact.get_digest(data),
        module=plan.module,
        adapter=bench.adapter,
        max_chars=settings.config.serving.limits.max_field_chars,
        choices=bench.choices,
    )


def _load_stable(settings: Settings, plan: Plan, bench: _Bench) -> Program | None:
    """Stable's program; None if there is none, or it is of other code and a floor can be asked instead."""
    if plan.stable is None:
        return None
    try:
        return _load(settings, plan, plan.stable, bench)
    except SignatureError as exc:
        if not plan.stable_may_differ:
            raise
        if plan.rule.min_score is None:
            raise SignatureError(*exc.reasons, f"{_ALONE}: give a minScore") from exc
        return None


def _parse(examples: ExampleSet, loaded: Program) -> dict[int, Mapping[str, Any]]:
    """The inputs by line, as the program wants them; all mistakes at once, before an LM is paid."""
    parsed: dict[int, Mapping[str, Any]] = {}
    mistakes = []
    for example in examples.examples:
        try:
            parsed[example.line] = loaded.inputs.parse(example.inputs)
        except InputError as exc:
            mistakes.append(f"line {example.line}: {exc}")
    if mistakes:
        raise ExamplesError(*mistakes[:20])
    return parsed


async def _measure(
    bench: _Bench, plan: Plan, programs: list[Program], inputs: list[dict[int, Mapping[str, Any]]]
) -> list[Pair]:
    """All pairs; ends early, with fewer, when so many are lost that there can be no verdict."""
    pairs: list[Pair] = []
    examples: Iterator[Example] = iter(plan.examples.examples)
    total = len(plan.examples.examples)

    async def work() -> None:
        for example in examples:  # shared: each example is taken once
            if is_hopeless(sum(pair.is_lost for pair in pairs), total):
                return
            outcomes = await asyncio.gather(
                *(
                    _try(bench, loaded, parsed[example.line], example)
                    for loaded, parsed in zip(programs, inputs, strict=True)
                )
            )
            pairs.append(Pair(example.line, outcomes[0], outcomes[1] if len(outcomes) > 1 else None))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(plan.concurrency, total)):
            group.create_task(work())
    return pairs


async def _try(bench: _Bench, loaded: Program, inputs: Mapping[str, Any], example: Example) -> Outcome:
    """One program on one example: what it fails is 0, what no model answers is lost."""
    call = open_call(bench.timeout)
    try:
        async with asking(call, lm=bench.lm, adapter=bench.adapter):
            prediction = await loaded.answer(inputs, bench.workers)
    except Exception as exc:  # noqa: BLE001 - user code: whatever it raises is an outcome
        if classify(exc, call) in NO_LM:
            return Outcome(0.0, lost=True)
        logs.get_logger().warning("example_failed", line=example.line, error=type(exc).__name__)
        return Outcome(0.0, failed=True)
    return await _score(bench, example, prediction)


async def _score(bench: _Bench, example: Example, prediction: Any) -> Outcome:
    known = compat.build_example(example.inputs, example.gold)
    bench.answers += 1
    try:
        value = await asyncio.to_thread(bench.metric, known, prediction)
        return Outcome(get_score(value))
    except Exception as exc:  # noqa: BLE001 - user code, as above
        bench.metric_errors.append(f"{type(exc).__name__} at line {example.line}")
        return Outcome(0.0, failed=True)
