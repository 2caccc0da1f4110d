"""LM settings in an artifact -> what its predictors may choose, or reasons: `serving.artifactLm: Allow`.

Pure. A model of `spec.lm` and how it samples; endpoint, key, headers and engine are never an artifact's to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CHOICES: Final = ("model", "temperature", "max_tokens", "top_p")
WRITTEN: Final = frozenset(
    {
        *CHOICES, "_dspy_lm_class", "model_type", "cache", "num_retries", "finetuning_model", "launch_kwargs",
        "train_kwargs",
    }
)  # fmt: skip
"""What DSPy writes of an LM, its choices among them; the others say nothing here."""


@dataclass(frozen=True)
class LmChoice:
    """What one predictor asks for; None: as `spec.lm` says.

    Attributes:
        max_tokens: never more than `spec.lm` allows, whatever it says.
    """

    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None


def check_choice(path: str, value: object, models: frozenset[str]) -> LmChoice | list[str]:
    """A predictor's choice, `models` being those of `spec.lm`; else why it has none, a sentence each."""
    if not isinstance(value, Mapping):
        return [f"{path}: not an object"]
    reasons = [
        f"{path}.{key}: an artifact may choose {', '.join(CHOICES)}, nothing else"
        for key in sorted(set(value) - WRITTEN)
    ]
    model = value.get("model")
    if not isinstance(model, str) or model not in models:
        known = ", ".join(sorted(models))
        reasons.append(f"{path}.model: {str(model)[:80]!r} is not in spec.lm, which has {known}")
    temperature = _find_number(path, value, "temperature", 0, 2, reasons)
    max_tokens = _find_number(path, value, "max_tokens", 1, 1 << 31, reasons)
    top_p = _find_number(path, value, "top_p", 0, 1, reasons)
    if max_tokens is not None and int(max_tokens) != max_tokens:
        reasons.append(f"{path}.max_tokens: not a whole number")
    if reasons:
        return reasons
    return LmChoice(str(model), temperature, None if max_tokens is None else int(max_tokens), top_p)


def _find_number(
    path: str, value: Mapping[str, object], key: str, least: float, most: float, reasons: list[str]
) -> float | None:
    number = value.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
        reasons.append(f"{path}.{key}: not a number from {least} to {most}")
        return None
    return number
