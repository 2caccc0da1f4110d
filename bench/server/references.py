"""`python -m bench.server.references NAME PORT PROVIDER`: what a team writes in an afternoon, to compare with.

`noop` shows what the web framework costs; `default` is a plain FastAPI endpoint over default DSPy; `catalogue` the same
with a model's name that DSPy's price list knows (an unknown one is sought at length); `litellm` goes over LiteLLM.
"""

import sys
from typing import Any

import uvicorn
from bench.server.programs import Triage, build_demos
from fastapi import FastAPI

MODELS = {"default": "openai/const", "catalogue": "openai/gpt-4o-mini", "litellm": "openai/const"}


def build_app(name: str, provider: str) -> FastAPI:
    """The application of that name."""
    app = FastAPI()
    if name == "noop":

        @app.post("/ask")
        async def nothing(body: dict[str, Any]) -> dict[str, Any]:
            return {"outputs": {"queue": "billing"}, "inputs": len(body)}

        return app
    import dspy  # noqa: PLC0415 - `noop` is measured without it

    engine = {"engine": "litellm"} if name == "litellm" else {}
    dspy.configure(lm=dspy.LM(MODELS[name], api_base=f"{provider}/v1", api_key="any", **engine))
    program = Triage()
    program.route.demos = build_demos()

    @app.post("/ask")
    async def ask(body: dict[str, Any]) -> dict[str, Any]:
        prediction = await program.acall(ticket=body["inputs"]["ticket"])
        return {"outputs": {"queue": prediction.queue}}

    return app


if __name__ == "__main__":
    uvicorn.run(
        build_app(sys.argv[1], sys.argv[3]),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        access_log=False,
        log_level="warning",
        loop="asyncio",  # what `pip install fastapi uvicorn` brings
        http="h11",
    )
