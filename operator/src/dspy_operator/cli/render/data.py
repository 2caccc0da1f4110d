"""Views as JSON and YAML for scripts: field names in camelCase, stable between releases. Pure."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from dspy_operator.cli.views.model import Deployment, Rollout


class Format(StrEnum):
    """What `-o` takes."""

    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def dump(views: Deployment | Rollout | list[Deployment] | list[Rollout], form: Format) -> str:
    """Write one view, or a list of them."""
    data = [_camel(asdict(v)) for v in views] if isinstance(views, list) else _camel(asdict(views))
    return write(data, form)


def write(data: Any, form: Format) -> str:
    """Write plain data."""
    if form is Format.YAML:
        import yaml  # noqa: PLC0415  keeps `--help` quick

        return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).rstrip()
    return json.dumps(data, indent=2, ensure_ascii=False)


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key): _camel(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_camel(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def _name(snake: str) -> str:
    first, *rest = snake.split("_")
    return first + "".join(word.capitalize() for word in rest)
