"""A loopback server that implements the hub's protocol, and a bucket's.

And for the weights: networks of the same layers and few channels.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from colorize.models import PublishedModel, create_model
from colorize.models.checkpoint import dump_checkpoint
from tests.small_models import SMALL_ARGS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"/piddnad/DDColor-models/resolve/main/(.+)")


@dataclass
class WeightsServer:
    """What it serves, which faults it injects, and the requests it received."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    announced: dict[str, str] = field(default_factory=dict)  # another SHA-256 than the file's
    breaks: list[int] = field(default_factory=list)  # the next responses end after so many bytes
    stalls: bool = False  # a file stops coming halfway
    stalled: threading.Event = field(default_factory=threading.Event)  # the file has stalled
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range

    @property
    def fetched(self) -> list[str]:
        """The ranges of the files that were sent, "" for a complete one."""
        # the hub's client asks once in each process for `/api/agent-harnesses`
        return [asked for method, path, asked in self.requests if method == "GET" and not path.startswith("/api/")]


@contextmanager
def weights_server() -> Iterator[WeightsServer]:
    """Starts one; its files are to be filled in."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(send=False)

        def do_GET(self) -> None:
            self._answer(send=True)

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

        def _answer(self, send: bool) -> None:
            asked = self.headers.get("Range", "")
            state.requests.append((self.command, self.path, asked))
            resolved = _RESOLVE.fullmatch(self.path)
            name = resolved[1] if resolved else self.path.rpartition("/")[2]
            if name not in state.files:
                self._head(404, {"Content-Length": "0", "X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            elif resolved:  # the hub redirects to the large file's location
                self._head(302, {"Content-Length": "0", **self._about(name)})
            else:
                self._body(name, asked, send)

        def _about(self, name: str) -> dict[str, str]:
            data = state.files[name]
            digest = state.announced.get(name) or hashlib.sha256(data).hexdigest()
            return {
                "Location": f"{state.address.replace('127.0.0.1', 'localhost')}/cdn/{name}",  # another host
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
            }

        def _body(self, name: str, asked: str, send: bool) -> None:
            data = state.files[name]
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            headers = {"Content-Length": str(len(data) - first)}
            if asked:
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self._head(206 if asked else 200, headers)
            if send and state.stalls:
                self.wfile.write(data[: len(data) // 2])
                state.stalled.set()
                threading.Event().wait(30)  # or until the client disconnects
            elif send:
                end = first + state.breaks.pop(0) if state.breaks else len(data)
                self.wfile.write(data[first:end])
                self.close_connection = end < len(data)

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

    server = _Server(("127.0.0.1", 0), Handler)
    state = WeightsServer(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A stopped download disconnects, which must not be logged in another test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def stand_in(architecture: str, seed: int = 0) -> bytes:
    """A file in the published layout, of a small network."""
    network = create_model(architecture, **SMALL_ARGS[architecture])
    assert isinstance(network, PublishedModel)
    generator, buffer = torch.Generator().manual_seed(seed), io.BytesIO()
    shapes = network.published_shapes().items()
    state = {key: 0.1 * torch.rand(shape, generator=generator) if shape else torch.tensor(1) for key, shape in shapes}
    torch.save({"params": state}, buffer)
    return buffer.getvalue()


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes published networks small for the duration of a test; their checkpoints record it."""
    real = create_model

    def small(name: str, **args: Any) -> Any:
        return real(name, **(args or SMALL_ARGS.get(name, {})))

    def dump(model: Any, *, name: str, args: Any) -> bytes:
        return dump_checkpoint(model, name=name, args=args or SMALL_ARGS[name])

    monkeypatch.setattr("colorize.models.checkpoint.create_model", small)
    monkeypatch.setattr("colorize.models.checkpoint.dump_checkpoint", dump)


@contextmanager
def published_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """The hub and the bucket, with a stand-in for `ddcolor_modelscope`, and empty caches below `folder`."""
    with weights_server() as running:
        running.files = {"ddcolor_modelscope.pth": stand_in("ddcolor_large")}
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 256)  # 10 MB: more than a stand-in has
        use_hub(running.address, monkeypatch)
        monkeypatch.setenv("COLORIZERS_ENDPOINT", f"{running.address}/bucket")
        monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield running


def use_hub(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets `HF_ENDPOINT`, which the hub's client reads once at import."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
