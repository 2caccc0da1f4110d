"""DSPy's programs: their predictors, fields and state."""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.types.decision import decision_type
from dspy.primitives.base_module import BaseModule

from dspy_server.artifact import ROOT, PredictorShape, Shape

Module = dspy.Module
Prediction = dspy.Prediction


def is_module(value: object) -> bool:
    """Whether `value` is a DSPy program."""
    return isinstance(value, dspy.Module)


def is_async(module: Any) -> bool:
    """Whether a program can run on the event loop: it has `aforward`, DSPy's base class has not."""
    return hasattr(module, "aforward")


def get_shape(module: Any) -> Shape:
    """The predictors of a program, as the allow-list of artifacts wants them."""
    predictors = {name: _get_predictor_shape(predictor) for name, predictor in _list_parameters(module)}
    return Shape(predictors, flat=isinstance(module, dspy.Predict))


def _list_parameters(module: Any) -> list[tuple[str, Any]]:
    parameters = BaseModule.named_parameters(module)
    if isinstance(module, dspy.Predict):
        return [(ROOT, module)]
    return [(name, parameter) for name, parameter in parameters if isinstance(parameter, dspy.Predict)]


def _get_predictor_shape(predictor: Any) -> PredictorShape:
    fields = predictor.signature.fields
    outputs = predictor.signature.output_fields
    return PredictorShape(
        fields=tuple(fields),
        prefixes=tuple(str(field.json_schema_extra["prefix"]) for field in fields.values()),
        descriptions=tuple(str(field.json_schema_extra["desc"]) for field in fields.values()),
        decisions=frozenset(name for name, field in outputs.items() if decision_type(field) is not None),
    )


def list_unsupported_parameters(module: Any) -> list[str]:
    """Names of parameters that are no predictors, whose state no allow-list knows."""
    parameters = BaseModule.named_parameters(module)
    return [name for name, parameter in parameters if not isinstance(parameter, dspy.Predict)]


def list_predictors(module: Any) -> list[Any]:
    """The predictors of a program."""
    return [predictor for _, predictor in _list_parameters(module)]


def load_state(module: Any, state: dict[str, Any]) -> None:
    """Load a checked state into a fresh module; LM settings in it are refused by DSPy as a second layer."""
    module.load_state(state, allow_unsafe_lm_state=False)


def give_lms(module: Any, lms: Mapping[str, Any]) -> None:
    """Let predictors, by the names of `get_shape`, ask an LM of their own."""
    for name, predictor in _list_parameters(module):
        if name in lms:
            predictor.lm = lms[name]


def list_demo_inputs(module: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """What demonstrations have in the fields of these names, of each predictor's the first that has all of them."""
    found = []
    for predictor in list_predictors(module):
        inputs = ({name: demo.get(name) for name in names} for demo in predictor.demos)
        found += [next((values for values in inputs if None not in values.values()), None)]
    return [values for values in found if values is not None]


def get_input_fields(module: Any) -> Mapping[str, Any]:
    """Input fields of all predictors, by name; the first predictor that has a field says its type."""
    fields: dict[str, Any] = {}
    for predictor in list_predictors(module):
        for name, info in predictor.signature.input_fields.items():
            fields.setdefault(name, info)
    return fields


def get_own_inputs(module: Any) -> Mapping[str, Any]:
    """Inputs of a program whose `forward` takes any keywords: its own signature's, else its first predictor's."""
    signature = getattr(module, "signature", None)
    if signature is None:
        predictors = list_predictors(module)
        signature = predictors[0].signature if predictors else None
    fields: Mapping[str, Any] = {} if signature is None else signature.input_fields
    return fields


def get_description(field: Any) -> str | None:
    """What the signature's author says of a field; None if it is only DSPy's placeholder."""
    text = str(field.json_schema_extra["desc"])
    return None if text.startswith("${") else text


def find_description(module: Any, name: str) -> str | None:
    """What the first predictor that says anything says of an input field."""
    fields = [predictor.signature.input_fields.get(name) for predictor in list_predictors(module)]
    texts = [get_description(field) for field in fields if field is not None]
    return next((text for text in texts if text is not None), None)


def get_output_fields(module: Any) -> tuple[Mapping[str, Any], bool]:
    """The output fields of a program's last predictor, and whether they are all and exactly what it answers."""
    predictors = list_predictors(module)
    if not predictors:
        return {}, False
    return predictors[-1].signature.output_fields, isinstance(module, dspy.Predict)


def get_outputs(prediction: Any) -> dict[str, Any]:
    """The fields of a prediction."""
    if not isinstance(prediction, dspy.Prediction):
        raise TypeError(f"the program returned {type(prediction).__name__}, not a dspy.Prediction")
    return dict(prediction.items())


def build_example(inputs: Mapping[str, Any], gold: Mapping[str, Any]) -> Any:
    """An example as metrics want it: all fields, and which of them are inputs."""
    return dspy.Example(**inputs, **gold).with_inputs(*inputs)
