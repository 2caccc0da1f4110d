"""`kubectl dspy plan`: what a strategy would do at today's traffic, before anything moves."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from dspy_operator.api.choices import MetricType
from dspy_operator.api.names import DEPLOYMENT_KIND, ROLLOUT_KIND, ConditionType, ScoreSource
from dspy_operator.cli.access import Target, open_cluster
from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.cli.kubeconfig import find_namespace
from dspy_operator.cli.objects import mapping, mappings, text
from dspy_operator.cli.offline.manifests import (
    AUTO,
    Strategy,
    build_strategy,
    find_unreachable,
    read_manifest,
)
from dspy_operator.cli.offline.planning import Conditions, build_forecast
from dspy_operator.cli.options import target_options
from dspy_operator.cli.render.data import Format, write
from dspy_operator.cli.render.plan import Premises, build_plan_data, plan_lines, rate_text
from dspy_operator.cli.render.screen import print_lines
from dspy_operator.cli.views.units import age
from dspy_operator.rollout.judging import Reference

if TYPE_CHECKING:
    from dspy_operator.metrics.reader import PrometheusReader
    from dspy_operator.metrics.traffic import Traffic

Object = Mapping[str, Any]
RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|min|m|h|d)")
UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

ASSUMED_SCORE = 0.8
ASSUMED_SUCCESS = Reference(mean=0.99, variance=0.0099)
HINT = (
    "Say where Prometheus is with --prometheus URL (from outside the cluster: `kubectl -n monitoring port-forward "
    "svc/prometheus 9090`, then --prometheus http://127.0.0.1:9090), or assume a traffic with --rate 120/min."
)


def _parse_rate(value: str) -> float:
    """Samples a second of `120/min`, `20/h` or `2.5/s`."""
    found = RATE.fullmatch(value.replace(" ", ""))
    if found is None:
        raise click.BadParameter(f"{value} is no rate: write it like 120/min, 20/h or 2.5/s.")
    return float(found[1]) / UNITS[found[2]]


@click.command()
@click.argument("name", required=False)
@click.option(
    "-f", "--file", "file", metavar="FILE", help="A manifest instead, applied or not; - is standard input."
)
@click.option("--prometheus", metavar="URL", help="Where today's traffic and stable's past are read.")
@click.option(
    "--rate", type=_parse_rate, metavar="N/min", help="Assume so many scored requests (also N/h, N/s)."
)
@click.option("--score-mean", type=click.FloatRange(0, 1), help="Assume this mean score of stable.  [0.8]")
@click.option("--score-variance", type=click.FloatRange(0, 0.25), help="Assume this variance.  [of thumbs]")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Another form.")
@target_options
def plan(
    target: Target,
    name: str | None,
    file: str | None,
    prometheus: str | None,
    rate: float | None,
    score_mean: float | None,
    score_variance: float | None,
    output: str | None,
) -> Exit:
    """Say what each step takes at today's traffic; exit 2 if one cannot be decided within its deadline."""
    if (name is None) == (file is None):
        raise click.UsageError("Give a NAME or -f FILE.")
    if prometheus is None and rate is None:
        raise click.UsageError(HINT)
    obj = read_manifest(file, DEPLOYMENT_KIND, ROLLOUT_KIND) if file else _get_deployment(target, name or "")
    if prometheus is None:
        strategy, premises = _assume(obj, rate or 0.0, _build_reference(score_mean, score_variance))
    else:
        strategy, premises = asyncio.run(_measure(obj, prometheus, _find_namespace(target, obj), rate))
    premises = _note_sizes(obj, premises)
    forecast = build_forecast(strategy.config, premises.conditions)
    data = build_plan_data(forecast, premises)
    print_lines([write(data, Format(output))] if output else plan_lines(forecast, premises))
    return Exit.HEALTHY if data["decidable"] else Exit.IN_PROGRESS


def _note_sizes(obj: Object, premises: Premises) -> Premises:
    """What pods of the canary's own could not do: now, if every canary has its own, else when what they run changes."""
    told, isolated = find_unreachable(obj)
    if not told:
        return premises
    if isolated:
        return replace(premises, troubles=(*premises.troubles, told))
    return replace(premises, notes=(f"Were the image, code, lm or environment to change: {told}.",))


def _get_deployment(target: Target, name: str) -> Object:
    async def read() -> Object:
        async with open_cluster(target) as cluster:
            return await cluster.get_deployment(name)

    return asyncio.run(read())


def _find_namespace(target: Target, obj: Object) -> str:
    given = target.namespace or text(mapping(obj, "metadata"), "namespace")
    return given or find_namespace(target.context, target.kubeconfig)


def _get_name(obj: Object) -> str:
    """Of the DSPyDeployment: an attempt names the one that it is of."""
    owner = text(mapping(obj, "spec"), "deployment") if obj.get("kind") == ROLLOUT_KIND else ""
    return owner or text(mapping(obj, "metadata"), "name")


def _build_reference(mean: float | None, variance: float | None) -> Reference:
    known = ASSUMED_SCORE if mean is None else mean
    return Reference(mean=known, variance=known * (1 - known) if variance is None else variance)


def _assume(obj: Object, rate: float, score: Reference) -> tuple[Strategy, Premises]:
    strategy = build_strategy(obj, _get_name(obj), has_scores=True)
    metrics = strategy.config.deciding
    references = {
        MetricType.SCORE: score,
        MetricType.ERROR_RATE: ASSUMED_SUCCESS,
        MetricType.RATIO: ASSUMED_SUCCESS,
    }
    conditions = Conditions(
        rates={metric.name: rate for metric in metrics},
        references={metric.name: references[metric.type] for metric in metrics if metric.type in references},
    )
    return strategy, Premises(_get_name(obj), _describe_rate(rate), conditions)


async def _measure(obj: Object, url: str, namespace: str, rate: float | None) -> tuple[Strategy, Premises]:
    from dspy_operator.metrics.reader import PrometheusReader  # noqa: PLC0415  a second; --rate needs none of it
    from dspy_operator.rollout.model import Unmeasured  # noqa: PLC0415  as above

    key = (namespace, _get_name(obj))
    reader = PrometheusReader(url, deadline=20.0)
    try:
        traffic = await reader.read_traffic(key)
        if isinstance(traffic, Unmeasured):
            raise CliError(f"{traffic.message}. {HINT}")
        strategy = build_strategy(obj, key[1], has_scores=any(traffic.scores.values()))
        references = await _read_references(reader, key, obj, strategy, traffic)
    finally:
        reader.close()
    rates = _list_rates(strategy, traffic, references)
    basis = f"traffic of the last {age(traffic.seconds)} in Prometheus"
    if rate is not None:
        rates, basis = dict.fromkeys(rates, rate), f"{_describe_rate(rate)}; stable's past from Prometheus"
    troubles = tuple(_list_telemetry(obj, key, traffic))
    return strategy, Premises(key[1], basis, Conditions(rates, references), troubles)


def _describe_rate(rate: float) -> str:
    return f"assumed, not measured: {rate_text(rate)} of every metric"


async def _read_references(
    reader: "PrometheusReader", key: tuple[str, str], obj: Object, strategy: Strategy, traffic: "Traffic"
) -> Mapping[str, Reference]:
    revision = text(mapping(obj, "status", "stable"), "revision") or traffic.busiest
    if not revision:
        return {}
    found = await reader.read_reference(key, revision, strategy.config.deciding, strategy.sources)
    return found if isinstance(found, Mapping) else {}


def _list_rates(
    strategy: Strategy, traffic: "Traffic", references: Mapping[str, Reference]
) -> dict[str, float]:
    rates = {}
    for metric in strategy.config.deciding:
        if metric.type is MetricType.SCORE:
            chosen = strategy.sources.get(metric.name, AUTO)
            reference = references.get(metric.name)
            source = (reference.source if reference else None) or chosen
            if source == AUTO:
                source = next((one for one in ScoreSource if traffic.scores.get(one)), AUTO)
            rates[metric.name] = traffic.scores.get(str(source).lower(), 0.0)
        else:
            fresh = metric.type is MetricType.LATENCY_P95
            rates[metric.name] = traffic.fresh if fresh else traffic.requests
    return rates


def _list_telemetry(obj: Object, key: tuple[str, str], traffic: "Traffic") -> list[str]:
    """What is wrong with the measuring itself."""
    from dspy_operator.metrics.traffic import LEAST_HISTORY  # noqa: PLC0415  as above

    if not traffic.seconds:
        missing = f"telemetry: Prometheus has no series of program {key[1]} in namespace {key[0]}"
        return [f"{missing}: are its pods scraped, with the labels namespace and pod?"]
    if traffic.seconds < LEAST_HISTORY:
        return [
            f"telemetry: Prometheus knows the pods for {age(traffic.seconds)} only: ask again in a minute"
        ]
    if not traffic.requests:
        return [f"telemetry: no requests in the last {age(traffic.seconds)}"]
    conditions = mappings(mapping(obj, "status"), "conditions")
    return [
        f"telemetry: {text(one, 'reason')}: {text(one, 'message')}"
        for one in conditions
        if text(one, "type") == ConditionType.TELEMETRY_READY and text(one, "status") == "False"
    ]
