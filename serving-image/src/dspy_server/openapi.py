"""`GET /openapi.json`: the real fields of stable's program, their types and descriptions, and every problem.

Built anew when another program becomes stable.
"""

from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from dspy_server import contract, problems, schema
from dspy_server.contract import ProblemCode, Track
from dspy_server.program import Program
from dspy_server.server import Exchange, Server

_PREFIX: Final = "#/components/schemas/"
_ASKING: Final = ("400", "404", "408", "413", "422", "429", "500", "502", "503", "504")
_TEXT: Final[dict[str, Any]] = {"type": "string"}
_COUNT: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_FREE: Final[dict[str, Any]] = {"type": "object", "additionalProperties": True}


class Document:
    """The document of the program that is stable now, as JSON; kept until that changes."""

    def __init__(self) -> None:
        self._program: Program | None = None
        self._text = b""

    async def answer(self, server: Server, _request: Request, _exchange: Exchange) -> Response:
        """`GET /openapi.json`."""
        snapshot = server.keeper.current
        program = None if snapshot is None else snapshot.programs[snapshot.routes[0].revision]
        if not self._text or program is not self._program:
            title = server.metrics.program
            self._text = orjson.dumps(build_document(title, str(server.version["version"]), program))
            self._program = program
        return Response(self._text, media_type="application/json")


def build_document(title: str, version: str, program: Program | None) -> dict[str, Any]:
    """The OpenAPI 3.1 document; without a program its inputs and outputs are any object."""
    fields = (
        {"Inputs": _FREE, "Outputs": _FREE}
        if program is None
        else schema.describe(program.module, program.inputs)
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": _build_paths(),
        "components": {
            "schemas": {**fields, **_build_schemas()},
            "responses": {
                "Problem": {
                    "description": "What is wrong.",
                    "content": {problems.MEDIA_TYPE: _ref("Problem")},
                }
            },
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }


def _build_paths() -> dict[str, Any]:
    asked = {"anyOf": [{"$ref": f"{_PREFIX}Question"}, {"$ref": f"{_PREFIX}Inputs"}]}
    question = _json({"schema": asked})
    events = "Events chunk {field, text}, then final {outputs, meta} or error {problem}."
    stream = {"200": {"description": events, "content": {"text/event-stream": {"schema": _TEXT}}}}
    model = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
    get, post = _build_get, _build_operation
    return {
        contract.PATH_ASK: {"post": post("ask", question, _ok("The answer.", "Answer"), _ASKING)},
        contract.PATH_STREAM: {"post": post("askStream", question, stream, _ASKING)},
        contract.PATH_FEEDBACK: {
            "post": post(
                "feedback",
                _json(_ref("Feedback")),
                _ok("Whether it counts.", "Counted"),
                ("400", "403", "409", "413", "422", "503"),
            )
        },
        contract.PATH_HEALTH: get("healthz", "It is alive."),
        contract.PATH_READY: get("ready", "It can answer.", "503"),
        contract.PATH_VERSION: get("version", "What runs, and which revisions it serves."),
        contract.PATH_RELOAD: {
            "post": post("reload", None, _ok("Read again.", "Any"), ("401", "404", "409"))
            | {"security": [{"admin": []}]}
        },
        contract.PATH_V2_LIVE: get("v2Live", "It is alive."),
        contract.PATH_V2_READY: get("v2Ready", "It can answer.", "503"),
        contract.PATH_V2_MODEL: get("v2Model", "The program's tensors.", "404", "503")
        | {"parameters": [model]},
        contract.PATH_V2_INFER: {
            "post": post("v2Infer", _json(_ref("Any")), _ok("The answers as tensors.", "Any"), _ASKING),
            "parameters": [model],
        },
    }


def _build_operation(
    name: str, body: dict[str, Any] | None, success: dict[str, Any], failures: tuple[str, ...]
) -> dict[str, Any]:
    problem = {"$ref": "#/components/responses/Problem"}
    operation: dict[str, Any] = {
        "operationId": name,
        "responses": {**success, **dict.fromkeys(failures, problem)},
    }
    return operation if body is None else {**operation, "requestBody": {"required": True, **body}}


def _build_get(name: str, text: str, *failures: str) -> dict[str, Any]:
    return {"get": _build_operation(name, None, _ok(text, "Any"), failures)}


def _build_schemas() -> dict[str, Any]:
    usage = ("lm_calls", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    meta = {
        "request_id": _TEXT,
        "revision": _TEXT,
        "track": {"enum": [str(track) for track in Track]},
        "model": _TEXT,
        "cache": {"enum": [str(label) for label in contract.CacheLabel]},
        "usage": _object(dict.fromkeys(usage, _COUNT)),
        "feedback_token": {"type": ["string", "null"]},
        "degraded": {"type": "boolean"},
    }
    problem = {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "code": {"enum": [str(code) for code in ProblemCode]},
        "request_id": _TEXT,
    }
    score = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "Question": _object({"inputs": {"$ref": f"{_PREFIX}Inputs"}}) | {"additionalProperties": False},
        "Answer": _object({"outputs": {"$ref": f"{_PREFIX}Outputs"}, "meta": {"$ref": f"{_PREFIX}Meta"}}),
        "Meta": _object(meta),
        "Problem": _object(problem),
        "Feedback": _object({"feedback_token": _TEXT, "score": score}),
        "Counted": _object({"counted": {"type": "boolean"}, "request_id": _TEXT}),
        "Any": _FREE,
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ok(text: str, name: str) -> dict[str, Any]:
    return {"200": {"description": text, **_json(_ref(name))}}


def _json(value: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": value}}


def _ref(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": _PREFIX + name}}
