"""The Open Inference Protocol, version 2: the same programs and the same walk, asked with tensors.

A batch is so many questions of one user: all get their answers, or the request gets the problem of one that failed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from http import HTTPStatus
from typing import Any, Final, Literal, get_args, get_origin

import orjson
from starlette.requests import Request
from starlette.responses import Response

from dspy_server import ask, schema
from dspy_server.answers import Answer, build_json
from dspy_server.clients import cancelled_when_gone
from dspy_server.contract import ProblemCode
from dspy_server.problems import ProblemError
from dspy_server.program import Program
from dspy_server.server import Exchange, Server, read_body
from dspy_server.snapshot import Snapshot

MAX_ROWS: Final = 64
_JSON: Final = {"content_type": "application/json"}
_MAX_RANK: Final = 2


class Datatype(StrEnum):
    """What a field's tensor holds; BYTES is text, or JSON where the field is neither text nor a number."""

    BYTES = "BYTES"
    BOOL = "BOOL"
    INT64 = "INT64"
    FP64 = "FP64"


_SCALARS: Final = {bool: Datatype.BOOL, int: Datatype.INT64, float: Datatype.FP64}


async def live(_server: Server, _request: Request, _exchange: Exchange) -> Response:
    """`GET /v2/health/live`."""
    return build_json({"live": True})


async def ready(server: Server, _request: Request, _exchange: Exchange) -> Response:
    """`GET /v2/health/ready`: as `/ready` says.

    Raises:
        ProblemError: 503, no program can answer, or the server is leaving.
    """
    if server.draining:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, ProblemCode.NOT_READY, "Shutting down")
    _get_snapshot(server)
    return build_json({"ready": True})


async def describe(server: Server, request: Request, _exchange: Exchange) -> Response:
    """`GET /v2/models/{model}`: the tensors of stable's program.

    Raises:
        ProblemError: 404 another model, 503 none yet.
    """
    name = _get_model(server, request)
    program = _get_stable(server)
    return build_json(
        {
            "name": name,
            "versions": [route.revision for route in _get_snapshot(server).routes],
            "platform": "dspy",
            "inputs": _describe(program.inputs.model.model_fields),
            "outputs": _describe(schema.build_output_model(program.module).model_fields),
        }
    )


async def infer(server: Server, request: Request, exchange: Exchange) -> Response:
    """`POST /v2/models/{model}/infer`: the answers to a batch of questions.

    Raises:
        ProblemError: there are none, and why; its member `error` is what clients of this protocol look for.
        UserLimitError: this user has had enough for now.
        ClientGoneError: nobody waits for them any more.
    """
    try:
        name = _get_model(server, request)
        body = await read_body(server, request)
        rows = _parse_rows(body, _get_stable(server).inputs.model.model_fields)
        async with cancelled_when_gone(request):
            program, found = await _answer_all(server, request, exchange, rows)
        return build_json(_build_body(name, body, exchange, program, found), exchange.request_id)
    except ProblemError as problem:
        problem.members.setdefault("error", problem.title)
        raise


async def _answer_all(
    server: Server, request: Request, exchange: Exchange, rows: Sequence[Mapping[str, Any]]
) -> tuple[Program, Sequence[Answer]]:
    """One answer a row; what the first row learns is what is counted."""
    exchanges = [exchange, *(exchange.branch() for _ in rows[1:])]
    questions = [
        await ask.check(server, request, each, row) for each, row in zip(exchanges, rows, strict=True)
    ]
    for index, each in enumerate(exchanges[1:], start=1):  # each has its own feedback
        each.request_id = f"{exchange.request_id}-{index}"
    tasks = [
        asyncio.create_task(ask.solve(server, question, each), name="row")
        for question, each in zip(questions, exchanges, strict=True)
    ]
    try:
        return questions[0].choice.program, await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _parse_rows(body: Any, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs of each row."""
    tensors = body.get("inputs") if isinstance(body, dict) else None
    if not isinstance(tensors, list) or not tensors:
        raise _refuse("inputs", 'not a list of tensors {"name", "shape", "datatype", "data"}')
    columns = {}
    for index, tensor in enumerate(tensors):
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise _refuse(f"inputs[{index}]", "not a tensor with a name")
        columns[tensor["name"]] = _parse_column(tensor, fields)
    sizes = {len(column) for column in columns.values()}
    if len(sizes) != 1:
        raise _refuse("inputs", "the tensors differ in their first dimension")
    if not 1 <= max(sizes) <= MAX_ROWS:
        raise _refuse("inputs", f"a batch has 1 to {MAX_ROWS} rows")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _parse_column(tensor: Mapping[str, Any], fields: Mapping[str, Any]) -> list[Any]:
    """One value a row, of a tensor of shape [n] or [n, 1]."""
    name, data, shape = tensor["name"], tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list) or not isinstance(shape, list) or not 1 <= len(shape) <= _MAX_RANK:
        raise _refuse(name, "not a tensor of shape [n] or [n, 1] with data")
    values = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in data]
    if shape[0] != len(values) or shape[1:] not in ([], [1]):
        raise _refuse(name, "the shape is not that of the data")
    field = fields.get(name)
    if field is None or tensor.get("datatype") != Datatype.BYTES or _is_plain(field.annotation):
        return values
    try:
        return [orjson.loads(value) for value in values]
    except orjson.JSONDecodeError as exc:
        raise _refuse(name, "not JSON") from exc


def _build_body(
    name: str, body: Mapping[str, Any], exchange: Exchange, program: Program, found: Sequence[Answer]
) -> dict[str, Any]:
    model = schema.build_output_model(program.module)
    names = dict.fromkeys(field for answer in found for field in answer.outputs)
    if asked := [item.get("name") for item in body.get("outputs") or [] if isinstance(item, dict)]:
        names = {field: None for field in names if field in asked}
    tensors = []
    for field in names:
        info = model.model_fields.get(field)
        annotation = None if info is None else info.annotation
        tensors.append(_build_tensor(field, annotation, [answer.outputs.get(field) for answer in found]))
    tokens = [answer.meta["feedback_token"] for answer in found if answer.meta["feedback_token"]]
    meta = found[0].meta
    parameters = {
        **{key: meta[key] for key in ("request_id", "revision", "track", "model", "cache")},
        "degraded": any(answer.meta["degraded"] for answer in found),
        "feedback_tokens": " ".join(tokens),  # a parameter cannot be a list
    }
    return {
        "model_name": name,
        "model_version": exchange.revision,
        "id": body.get("id") or exchange.request_id,
        "parameters": parameters,
        "outputs": tensors,
    }


def _build_tensor(name: str, annotation: Any, values: list[Any]) -> dict[str, Any]:
    """The column of one output; as JSON where a value is not what the datatype holds."""
    datatype = get_datatype(annotation)
    kinds = {Datatype.BYTES: str, Datatype.BOOL: bool, Datatype.INT64: int, Datatype.FP64: float}
    tensor = {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}
    if _is_plain(annotation) and all(type(value) is kinds[datatype] for value in values):
        return tensor
    texts = [orjson.dumps(value).decode() for value in values]
    return {**tensor, "datatype": Datatype.BYTES, "data": texts, "parameters": _JSON}


def get_datatype(annotation: Any) -> Datatype:
    """The datatype of a field's tensor."""
    return _SCALARS.get(annotation, Datatype.BYTES)


def _is_plain(annotation: Any) -> bool:
    """Whether a field is a number or text, so that its tensor holds the values themselves and not JSON."""
    if get_origin(annotation) is Literal:
        return all(isinstance(option, str) for option in get_args(annotation))
    is_text = isinstance(annotation, type) and issubclass(annotation, str)
    is_choice = isinstance(annotation, type) and issubclass(annotation, Enum)
    return (
        annotation in _SCALARS or is_text or (is_choice and all(isinstance(o.value, str) for o in annotation))
    )


def _describe(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": get_datatype(field.annotation),
            "shape": [-1],
            **({} if _is_plain(field.annotation) else {"parameters": _JSON}),
        }
        for name, field in fields.items()
    ]


def _get_model(server: Server, request: Request) -> str:
    name: str = request.path_params["model"]
    if name != server.metrics.program:
        raise ProblemError(HTTPStatus.NOT_FOUND, ProblemCode.NOT_FOUND, "No model of that name")
    return name


def _get_snapshot(server: Server) -> Snapshot:
    if server.keeper.current is None:
        raise ask.build_not_ready()
    return server.keeper.current


def _get_stable(server: Server) -> Program:
    """The program whose tensors are described; `check` holds each row to the inputs of the one that answers it."""
    snapshot = _get_snapshot(server)
    return snapshot.programs[snapshot.routes[0].revision]


def _refuse(field: str, message: str) -> ProblemError:
    mistakes = [{"field": field, "message": message}]
    title = "The inputs do not fit the program's signature"
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, ProblemCode.INPUTS, title, errors=mistakes)
