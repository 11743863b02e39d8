"""A small server of OpenAI's images protocol, as SGLang-diffusion and vLLM-Omni speak it; it fails as it is told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, NamedTuple

from PIL import Image

MODEL = "Qwen/Qwen-Image"


class Asked(NamedTuple):
    """What came in."""

    path: str
    headers: dict[str, str]
    fields: dict[str, Any]
    files: dict[str, bytes] = {}  # noqa: RUF012


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012
    length: int | None = None  # said of the body, where it is another


class Server(ThreadingHTTPServer):
    """`asked` is all that came in. `answer` says what goes out; to others than None by a function that writes it."""

    daemon_threads = True

    def __init__(self, listening: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        if listening:
            self.server_activate()
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Answer | Callable[[Any], None]] = draw

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has gone."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, headers, *parsed(headers["content-type"], body))
        self.server.asked.append(asked)
        answer = self.server.answer(asked)
        if not isinstance(answer, Answer):
            return answer(self)
        self.send_response(answer.status)
        length = len(answer.body) if answer.length is None else answer.length
        for name, value in {"content-length": str(length), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: Any) -> None:
        pass


def parsed(kind: str, body: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields and the files of a body of JSON, or of a form."""
    if kind == "application/json":
        return json.loads(body), {}
    fields, files = {}, {}
    for part in message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + body).get_payload():
        name, file = (part.get_param(key, header="content-disposition") for key in ("name", "filename"))
        content = part.get_payload(decode=True)
        if file is None:
            fields[name] = content.decode()
        else:
            files[name] = content
    return fields, files


def draw(asked: Asked) -> Answer:
    """A picture of one colour, of the seed: of the size that was asked for."""
    width, height = map(int, asked.fields["size"].split("x"))
    return picture(Image.new("RGB", (width, height), color(int(asked.fields["seed"]))))


def color(seed: int) -> tuple[int, int, int]:
    return seed % 256, 90, 200


def picture(image: Image.Image, format: str = "PNG", **options: Any) -> Answer:
    file = BytesIO()
    image.save(file, format=format, **options)
    return data(base64.b64encode(file.getvalue()).decode())


def data(text: Any) -> Answer:
    return as_json({"created": 1, "data": [{"b64_json": text, "url": None, "revised_prompt": None}]})


def as_json(found: Any, status: int = 200, **headers: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(found).encode(), {"content-type": "application/json", **headers})


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
