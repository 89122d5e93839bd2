"""A proxy that makes an HTTP server unreliable: refused requests, truncated responses, delays.

    python -m tests.faulty_proxy --to http://127.0.0.1:8333 --port 9000 --refuse 0.05 --cut 0.05 --delay 0.2

Each connection serves one request, so that every request takes its own chance. Which ones fail is drawn from a seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

import typer

REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CHUNK = 1 << 16


@dataclass
class FaultyProxy:
    """The share of requests for each fault, and counts of those injected."""

    upstream: str
    refuse: float = 0.0  # answered by 503 without asking the server
    cut: float = 0.0  # GET responses that end in the middle of the body
    delay: float = 0.0  # maximum seconds before a request is forwarded
    seed: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen["requests"] += 1
            await asyncio.sleep(self.random.random() * self.delay)
            if self.random.random() < self.refuse:
                self.seen["refused"] += 1
                writer.write(REFUSAL)
                await writer.drain()
            else:
                cut = head.startswith(b"GET") and self.random.random() < self.cut
                await self._forward(head, reader, writer, cut)
        with contextlib.suppress(OSError):
            writer.close()

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: bool
    ) -> None:
        parts = urlsplit(self.upstream)
        server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
        to_server.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        upload = asyncio.ensure_future(_pump(reader, to_server))
        try:
            if cut:
                await self._cut(server, writer)
            else:
                await _pump(server, writer)
        finally:
            upload.cancel()
            to_server.close()

    async def _cut(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await server.read()  # all of it: the server closes the connection behind it
        head, _, body = answer.partition(b"\r\n\r\n")
        if len(body) > 1:
            self.seen["cut"] += 1
            body = body[: len(body) // 2]
        writer.write(head + b"\r\n\r\n" + body)
        await writer.drain()

    async def serve(self, port: int, up: threading.Event | None = None) -> None:
        """Listens on the loopback interface until cancelled."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", port, limit=1 << 20)
        if up is not None:
            up.set()
        async with server:
            await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()


@contextlib.contextmanager
def running(proxy: FaultyProxy, port: int) -> Iterator[str]:
    """The proxy in its own thread; yields its address."""
    loop, up = asyncio.new_event_loop(), threading.Event()
    task = loop.create_task(proxy.serve(port, up))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert up.wait(10)
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(task.cancel)
    thread.join(10)


def main(
    to: Annotated[str, typer.Option(help="the server's address")],
    port: Annotated[int, typer.Option()],
    refuse: Annotated[float, typer.Option(help="share of requests answered by 503")] = 0.05,
    cut: Annotated[float, typer.Option(help="share of GET answers cut in the middle")] = 0.05,
    delay: Annotated[float, typer.Option(help="seconds at most before a request goes on")] = 0.0,
) -> None:
    """Runs until stopped."""
    asyncio.run(FaultyProxy(to, refuse, cut, delay).serve(port))


if __name__ == "__main__":
    typer.run(main)
