"""A program's signature <-> JSON: which inputs it takes, checked before an LM is paid; its outputs as plain JSON.

Inputs are the parameters of the module's `forward`; the predictors say their types where the code does not.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import to_jsonable_python

from dspy_server import compat

_KEYWORDS: Final = frozenset({inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL})
_MAX_MISTAKES: Final = 8


class InputError(ValueError):
    """Inputs that do not fit; one sentence each, without their values.

    Attributes:
        mistakes: path and sentence.
    """

    def __init__(self, mistakes: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{item['field']}: {item['message']}" for item in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class InputSchema:
    """The checked form of a program's inputs."""

    model: type[BaseModel]
    max_chars: int

    def list_required(self) -> list[str]:
        """Names of the fields that a question must have."""
        return [name for name, info in self.model.model_fields.items() if info.is_required()]

    def parse(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with their Python types.

        Raises:
            InputError: a field is missing, unknown, too long or of another type.
        """
        too_long = [
            name for name, value in inputs.items() if isinstance(value, str) and len(value) > self.max_chars
        ]
        if too_long:
            raise InputError(
                [{"field": name, "message": f"longer than {self.max_chars}"} for name in too_long]
            )
        try:
            parsed = self.model.model_validate(dict(inputs))
        except ValidationError as exc:
            items = exc.errors(include_input=False, include_url=False, include_context=False)[:_MAX_MISTAKES]
            raise InputError(
                [
                    {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]}
                    for item in items
                ]
            ) from exc
        return {
            name: getattr(parsed, name) for name in self.model.model_fields if name in parsed.model_fields_set
        }


def build_input_schema(module: Any, *, max_chars: int) -> InputSchema:
    """What `module` takes."""
    known = compat.get_input_fields(module)
    everything = compat.get_own_inputs(module)
    parameters = _list_parameters(module)
    if parameters:
        fields = {
            item.name: _get_field(item, known, compat.find_description(module, item.name))
            for item in parameters
        }
    else:
        fields = {
            name: (info.annotation, Field(description=compat.find_description(module, name)))
            for name, info in everything.items()
        }
    model = create_model(
        "Inputs", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields
    )
    return InputSchema(model, max_chars)


def _list_parameters(module: Any) -> list[inspect.Parameter]:
    """The named parameters of the program's own `forward`; none if it takes whatever its predictors take."""
    function = getattr(type(module), "forward", None) or getattr(type(module), "aforward", None)
    if function is None:
        return []
    parameters = list(_get_signature(function).parameters.values())[1:]
    return [item for item in parameters if item.kind not in _KEYWORDS]


def _get_signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, TypeError):  # annotations imported for type checkers only
        return inspect.signature(function)


def _get_field(item: inspect.Parameter, known: Mapping[str, Any], text: str | None) -> Any:
    annotation = item.annotation
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        annotation = known[item.name].annotation if item.name in known else Any
    if item.default is inspect.Parameter.empty:
        return (annotation, Field(description=text))
    return (annotation, Field(item.default, description=text))


def build_output_model(module: Any) -> type[BaseModel]:
    """The program's outputs, as far as its signatures say them.

    A bare predictor answers exactly its own signature. What any other program returns is up to its code: mostly the
    fields of its last predictor, so those are described, none is promised, and others are allowed.
    """
    outputs, is_whole = compat.get_output_fields(module)
    fields: dict[str, Any] = {
        name: (info.annotation, Field(... if is_whole else None, description=compat.get_description(info)))
        for name, info in outputs.items()
    }
    return create_model(
        "Outputs",
        __config__=ConfigDict(extra="forbid" if is_whole else "allow", arbitrary_types_allowed=True),
        **fields,
    )


def describe(module: Any, inputs: InputSchema) -> dict[str, Any]:
    """JSON schemas of `Inputs`, `Outputs` and of the types that they use, for the components of an OpenAPI document."""
    keys, described = models_json_schema(
        [(inputs.model, "validation"), (build_output_model(module), "validation")],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Lenient,
    )
    schemas = dict(described["$defs"])
    for (model, _), reference in keys.items():
        schemas[model.__name__] = schemas.pop(reference["$ref"].rpartition("/")[2])
    return schemas


class _Lenient(GenerateJsonSchema):
    """A type of Python that JSON does not know is described as anything; so is a default."""

    ignored_warning_kinds = {"non-serializable-default"}  # noqa: RUF012 - pydantic's own attribute

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002 - its signature
        return {}


def encode_outputs(prediction: Any) -> dict[str, Any]:
    """The outputs of a prediction as plain JSON values.

    Raises:
        TypeError: the program returned something else than a prediction.
    """
    return encode(compat.get_outputs(prediction))


def encode(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as plain JSON values."""
    encoded: dict[str, Any] = to_jsonable_python(dict(fields), fallback=str)
    return encoded
