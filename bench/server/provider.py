"""`python -m bench.server.provider PORT [SECONDS]`: an LM that has one answer to any question.

It costs next to nothing, so that what is measured is the server that asks.
"""

import asyncio
import json
import re
import sys

TEXT = "[[ ## queue ## ]]\nbilling\n\n[[ ## completed ## ]]"
USAGE = {"prompt_tokens": 400, "completion_tokens": 12, "total_tokens": 412}
LENGTH = re.compile(rb"(?i)\ncontent-length: *(\d+)")
MODEL = re.compile(rb'"model": ?"([^"]+)"')


def build_answer(model: str) -> bytes:
    """A chat completion with its HTTP head."""
    message = {"role": "assistant", "content": TEXT}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": choices}
    data = json.dumps(body | {"usage": USAGE}).encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    )


async def main(port: int, delay: float) -> None:
    """Serve until the process is ended."""
    answers: dict[bytes, bytes] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = LENGTH.search(head)
                body = await reader.readexactly(int(found[1]) if found else 0)
                name = MODEL.search(body)
                model = name[1] if name else b"none"
                if model not in answers:
                    answers[model] = build_answer(model.decode())
                if delay:
                    await asyncio.sleep(delay)
                writer.write(answers[model])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
