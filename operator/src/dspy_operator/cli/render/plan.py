"""What `plan` prints. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dspy_operator.cli.offline.planning import Conditions, Forecast, StepForecast
from dspy_operator.cli.views.units import age

COLUMNS = "{:<5} {:<7} {:<10} {:<22} {:<9} {}"
MINUTE = 60


@dataclass(frozen=True)
class Premises:
    """What a forecast rests on, in words; `troubles` of the telemetry, `notes` about what may come."""

    name: str
    basis: str
    conditions: Conditions
    troubles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def plan_lines(forecast: Forecast, premises: Premises) -> list[str]:
    """The forecast for a person; what cannot be decided stands last."""
    return [
        f"{premises.name}: {premises.basis}",
        *_metrics(premises.conditions),
        "",
        COLUMNS.format(
            "STEP", "WEIGHT", "DEADLINE", "SAMPLES OF THE CANARY", "OPEN IN", "ROLLED BACK IF WORSE"
        ),
        *(_step(step) for step in forecast.steps),
        "",
        conclusion(forecast),
        *premises.notes,
        *(f"! {trouble}" for trouble in list_troubles(forecast, premises)),
    ]


def list_troubles(forecast: Forecast, premises: Premises) -> list[str]:
    """Why it cannot be decided, each a sentence."""
    by_step = [f"step {step.number}: {said}" for step in forecast.steps for said in step.troubles]
    return [*premises.troubles, *forecast.troubles, *by_step]


def conclusion(forecast: Forecast) -> str:
    """How long a good canary takes and a bad one lasts."""
    said = "A canary as good as stable "
    if forecast.seconds is None:
        said += "is not promoted by this traffic"
    else:
        said += f"is promoted in about {age(forecast.seconds)}"
        said += f", {age(forecast.bake)} of bake included" if forecast.bake else ""
    first = forecast.steps[0] if forecast.steps else None
    if first is not None and first.worse:
        worse = first.worse[0]
        said += f"; one worse by twice the margin of {worse.metric} is "
        if worse.seconds <= first.deadline:
            said += f"rolled back in about {age(worse.seconds)}"
        else:
            said += f"not proven bad within the first step's deadline of {age(first.deadline)}"
    return said + "."


def build_plan_data(forecast: Forecast, premises: Premises) -> dict[str, Any]:
    """The forecast for scripts; times in seconds, no number where there is none."""
    steps = [
        {
            "step": step.number,
            "weight": step.weight,
            "deadlineSeconds": step.deadline,
            "samples": step.samples,
            "slowest": step.slowest,
            "seconds": step.seconds,
            "rollback": [{key: _finite(value) for key, value in asdict(one).items()} for one in step.worse],
            "troubles": list(step.troubles),
        }
        for step in forecast.steps
    ]
    return {
        "name": premises.name,
        "ratesPerMinute": {name: MINUTE * rate for name, rate in premises.conditions.rates.items()},
        "steps": steps,
        "bakeSeconds": forecast.bake,
        "secondsToPromote": forecast.seconds,
        "decidable": forecast.is_decidable and not premises.troubles,
        "troubles": list_troubles(forecast, premises),
        "notes": list(premises.notes),
    }


def _metrics(conditions: Conditions) -> Iterator[str]:
    for name, rate in conditions.rates.items():
        reference = conditions.references.get(name)
        known = "nothing known of stable" if reference is None else f"stable {reference.mean:.3g}"
        if reference is not None and reference.p95 is not None:
            known = f"stable's p95 {reference.p95:.3g} s"
        yield f"  {name:<12} {rate_text(rate)}, {known}"


def rate_text(rate: float) -> str:
    """A rate per second as people say it."""
    per, unit = (MINUTE * rate, "a minute") if rate * MINUTE >= 1 else (3600 * rate, "an hour")
    return f"{per:.0f} samples {unit}" if per >= 100 else f"{per:.3g} samples {unit}"  # noqa: PLR2004  no exponents


def _step(step: StepForecast) -> str:
    samples = "never enough" if step.samples is None else f"{step.samples:.0f} ({step.slowest})"
    opens = "never" if step.seconds is None else age(step.seconds)
    worse = ", ".join(_worse(step.worse))
    cells = (step.number, f"{step.weight:g} %", age(step.deadline), samples, opens, worse)
    return COLUMNS.format(*cells).rstrip()


def _worse(worse: Sequence[Any]) -> Iterator[str]:
    for one in worse:
        lasting = "never" if one.seconds == float("inf") else age(one.seconds)
        yield f"{one.metric} {one.samples:.0f} samples, {lasting}"


def _finite(value: Any) -> Any:
    return None if value == float("inf") else value
