"""A Hub's requests and answers, over HTTP on loopback."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Seen:
    """One request, as it came in."""

    method: str
    path: str
    received: int
    sent: int = 0

    @property
    def short(self) -> str:
        return f"{self.method} {urlsplit(self.path).path}"


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    data: bytes | Path
    start: int
    stop: int

    def chunks(self) -> Iterator[bytes]:
        if isinstance(self.data, bytes):
            yield self.data[self.start : self.stop]
            return
        with self.data.open("rb") as stream:
            stream.seek(self.start)
            left = self.stop - self.start
            while left > 0 and (chunk := stream.read(min(left, 1 << 20))):
                left -= len(chunk)
                yield chunk


def json_answer(value: Any, status: int = 200) -> Answer:
    data = json.dumps(value).encode()
    return Answer(status, {"Content-Type": "application/json"}, data, 0, len(data))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no fault."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle_any(self) -> None:
        hub, body = self.server.hub, self._body()
        address = urlsplit(self.path)
        request = Request(self.command, address.path, parse_qs(address.query), self.headers, body)
        seen = Seen(self.command, self.path, len(self.raw_requestline) + len(str(self.headers)) + len(body))
        with hub.lock:
            hub.seen.append(seen)
            fault = hub.fault(len(hub.seen) - 1, seen)
            if fault == "drop":
                self._drop()
                return
            try:
                if isinstance(fault, int):
                    raise Refused(fault, "out of order")
                answer = hub.answer(request)
            except Refused as refused:
                answer = json_answer({"error": str(refused)}, refused.status)
                answer.headers["X-Error-Message"] = str(refused)
                if refused.code:
                    answer.headers["X-Error-Code"] = refused.code
        if fault == "lose":
            self._drop()
            return
        self._send(answer, seen)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Answer, seen: Seen) -> None:
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(answer.stop - answer.start))
        self.end_headers()
        if self.command == "HEAD":
            return
        for chunk in answer.chunks():
            self.wfile.write(chunk)
            seen.sent += len(chunk)

    def _drop(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
