"""A user's YAML or JSON file to the configuration of the judge: only what judges is read of it.

So that a strategy can be tried before there is an artifact; the API server checks the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import click
import yaml
from pydantic import Field, ValidationError

from dspy_operator.api.defaults import (
    steps_with_defaults,
    strategy_with_defaults,
    traffic_with_defaults,
)
from dspy_operator.api.fields import Model
from dspy_operator.api.metric import ScoreChoice
from dspy_operator.api.names import DEPLOYMENT_KIND, ROLLOUT_KIND, ScoreSource
from dspy_operator.api.rollout import FilledStrategy
from dspy_operator.api.spec import (
    DEFAULT_REPLICAS,
    DeploymentSpec,
    Isolation,
    Scoring,
    Traffic,
    build_invalid,
)
from dspy_operator.api.strategy import Strategy as StrategySpec
from dspy_operator.cli.exits import CliError, Exit
from dspy_operator.rollout import plan
from dspy_operator.rollout.judging import RolloutConfig, StepConfig
from dspy_operator.rollout.sizing import describe_unreachable

Object = Mapping[str, Any]

AUTO = "Auto"
SOURCES = {
    ScoreChoice.FUNCTION: ScoreSource.METRIC,
    ScoreChoice.JUDGE: ScoreSource.JUDGE,
    ScoreChoice.FEEDBACK: ScoreSource.FEEDBACK,
}
"""A metric's `source` as Prometheus has it."""


class Judged(Model):
    """The parts of a DSPyDeployment's spec that say how it is judged."""

    replicas: int = DEFAULT_REPLICAS
    strategy: StrategySpec | None = None
    scoring: Scoring | None = None
    traffic: Traffic | None = None


class Frozen(Model):
    """The same of a DSPyRollout."""

    strategy: FilledStrategy
    user_header: str | None = None


class JudgedManifest(Model):
    """A DSPyDeployment, as far as it is read."""

    spec: Judged = Field(default_factory=Judged)


class FrozenManifest(Model):
    """A DSPyRollout, as far as it is read."""

    spec: Frozen


def read_manifest(file: str, *kinds: str) -> Object:
    """The first object of one of these kinds in a file, in a `List` too; `-` is standard input.

    Raises:
        CliError: no such file, no YAML, or nothing of that kind in it.
    """
    try:
        with click.open_file(file, encoding="utf-8") as stream:
            documents = list(yaml.safe_load_all(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {error}", Exit.USAGE) from None
    except yaml.YAMLError as error:
        raise CliError(f"{file} is no YAML: {' '.join(str(error).split())}", Exit.USAGE) from None
    for document in documents:
        found = document if isinstance(document, Mapping) else {}
        for item in found.get("items") or [found]:
            if isinstance(item, Mapping) and item.get("kind") in kinds:
                return item
    raise CliError(f"{file} holds no {' or '.join(kinds)}.", Exit.USAGE)


@dataclass(frozen=True)
class Strategy:
    """How a resource is judged; `sources`: per metric the source of its scores (`Auto`), or a Ratio's counter."""

    config: RolloutConfig
    sources: Mapping[str, str]


def read_strategy(file: str, *, has_scores: bool = False) -> Strategy:
    """How the DSPyDeployment or DSPyRollout in a file is judged.

    `has_scores`: there are scores, so that a score is among the metrics where the manifest names none.

    Raises:
        CliError: naming the field that is wrong.
    """
    return build_strategy(read_manifest(file, DEPLOYMENT_KIND, ROLLOUT_KIND), file, has_scores=has_scores)


def build_strategy(obj: Object, origin: str, *, has_scores: bool = False) -> Strategy:
    """The same of an object; `origin` says where it is from."""
    try:
        filled, is_sticky = _fill(obj, has_scores=has_scores)
        config = plan.build_config(filled, is_sticky=is_sticky)
    except ValidationError as error:
        raise CliError(f"{origin}: {build_invalid(error)}", Exit.USAGE) from None
    except ValueError as error:
        raise CliError(f"{origin}: {error}", Exit.USAGE) from None
    _check_weights(config.steps, origin)
    metrics = filled.analysis.metrics
    scores = {metric.name: SOURCES.get(metric.source, AUTO) for metric in metrics if metric.source}
    return Strategy(config, scores | {metric.name: metric.series for metric in metrics if metric.series})


def _fill(obj: Object, *, has_scores: bool) -> tuple[FilledStrategy, bool]:
    if obj.get("kind") == ROLLOUT_KIND:
        frozen = FrozenManifest.model_validate(obj).spec
        return frozen.strategy, bool(frozen.user_header)
    judged = JudgedManifest.model_validate(obj).spec
    spec = DeploymentSpec.model_construct(  # type: ignore[call-arg]  # what is left out is not read
        strategy=judged.strategy, scoring=judged.scoring
    )
    filled = strategy_with_defaults(spec, feedback_scores=has_scores)
    return filled, bool(judged.traffic and judged.traffic.user_header)


def find_unreachable(obj: Object) -> tuple[str, bool]:
    """Which weight a canary with pods of its own could not have, empty for none; and whether every canary has its own.

    Raises:
        CliError: naming the field that is wrong.
    """
    if obj.get("kind") == ROLLOUT_KIND:
        return "", False
    try:
        judged = JudgedManifest.model_validate(obj).spec
    except ValidationError as error:
        raise CliError(str(build_invalid(error)), Exit.USAGE) from None
    spec = DeploymentSpec.model_construct(  # type: ignore[call-arg]  # what is left out is not read
        strategy=judged.strategy, traffic=judged.traffic
    )
    weights = [step.weight for step in steps_with_defaults(spec)]
    routing = plan.build_routing(traffic_with_defaults(spec))
    isolated = bool(judged.traffic and judged.traffic.isolation is Isolation.POD)
    return describe_unreachable(judged.replicas, weights, routing), isolated


def _check_weights(steps: Sequence[StepConfig], origin: str) -> None:
    """What the API server would refuse, and a walk through the steps cannot do without."""
    weights = [step.weight for step in steps]
    if weights[-1] != 100 or any(after <= before for before, after in pairwise(weights)):  # noqa: PLR2004  percent
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise CliError(
            f"{origin}: spec.strategy.canary.steps: weights must rise to 100, not {shown}.", Exit.USAGE
        )
