"""HTTP links: limits on bytes, seconds and redirects, and no access to non-public addresses."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from colorize.storage import links
from colorize.storage.links import LinkLimits, fetch_link

OPEN = LinkLimits(seconds=5, allow_private=True)


class Site(http.server.BaseHTTPRequestHandler):
    """A server that provokes each limit."""

    def do_GET(self) -> None:
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"_{kind}")(rest)

    def _plain(self, rest: str) -> None:
        self._send(200, f"image {rest} for {self.headers['Host']}".encode())

    def _to(self, rest: str) -> None:
        self.send_response(302)
        self.send_header("Location", rest)
        self.end_headers()

    def _loop(self, rest: str) -> None:
        self._to("/loop")

    def _large(self, rest: str) -> None:
        self._send(200, bytes(3000))

    def _endless(self, rest: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def _dribble(self, rest: str) -> None:
        for _ in range(100):
            self.wfile.write(b"HTTP/1.0 200 OK\r\n"[:1])
            time.sleep(0.1)

    def _cut(self, rest: str) -> None:
        self._send(200, b"half", length=8)

    def _gone(self, rest: str) -> None:
        self._send(404, b"")

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The server's addresses, on every loopback interface."""
    server = http.server.ThreadingHTTPServer(("", 0), Site)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign, assignment]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


def test_a_link_and_its_redirects_are_followed(port: int) -> None:
    site = f"http://localhost:{port}"
    assert fetch_link(f"{site}/plain/1", OPEN) == f"image 1 for localhost:{port}".encode()
    assert fetch_link(f"{site}/to//plain/2", OPEN) == f"image 2 for localhost:{port}".encode()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("loop", "more than 5 redirects"),
        ("large", "more than 2000 bytes"),
        ("endless", "not done within 1 s"),
        ("dribble", "not done within 1 s"),
        ("cut", "4 bytes early"),
        ("gone", "answered 404"),
        ("to/file:///etc/passwd", "not an http"),
    ],
)
def test_each_limit_is_named(port: int, path: str, message: str) -> None:
    limits = LinkLimits(max_bytes=2000, seconds=1, allow_private=True)
    started = time.monotonic()
    with pytest.raises(OSError, match=message):
        fetch_link(f"http://127.0.0.1:{port}/{path}", limits)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("http://nosuch.invalid/a.jpg", r"unknown host nosuch\.invalid: check its spelling and the network"),
        ("http://a..b/a.jpg", r"unknown host a\.\.b"),
        ("http://127.0.0.1:1/a.jpg", r"no answer from 127\.0\.0\.1, port 1 \(connection refused\): check the link"),
        ("http://[::1/a.jpg", "not an http"),
        ("http://localhost:port/a.jpg", "not an http"),
        ("http:///a.jpg", "not an http"),
    ],
)
def test_an_unresponsive_server_is_named(link: str, message: str) -> None:
    with pytest.raises(OSError, match=message) as fault:
        fetch_link(link, OPEN)
    assert "Errno" not in str(fault.value)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.1.2.3",
     "192.168.0.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "224.0.0.1",
     "0.1.2.3", "192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "172.31.0.1",
     "[::ffff:169.254.169.254]", "[2002:7f00:1::]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2001::80ff:fffe]",
     "[ff0e::1]", "[100::1]", "[100:0:0:1::1]", "168.63.129.16", "[2001:db8::1]",
     "[3fff::1]", "[fec0::1]", "[::7f00:1]"],
)  # fmt: skip
def test_non_public_addresses_are_refused_in_any_notation(port: int, host: str) -> None:
    with pytest.raises(OSError, match="private address"):
        fetch_link(f"http://{host}:{port}/plain/1", LinkLimits(seconds=3))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "2002:808:808::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert links._is_public(address)


def test_a_host_that_also_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [(2, 1, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    with pytest.raises(OSError, match=r"rebind\.example is the private address 10\.0\.0\.1"):
        fetch_link("http://rebind.example/a.jpg")


def test_an_unresponsive_name_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20))
    started = time.monotonic()
    with pytest.raises(OSError, match=r"the host name slow.* was not resolved"):
        fetch_link("http://slow.example/a.jpg", LinkLimits(seconds=1))
    assert time.monotonic() - started < 4
    answered.set()


def test_a_redirect_to_a_private_address_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_is_public", lambda address: address == "127.0.0.1")  # as if it were
    assert fetch_link(f"http://127.0.0.1:{port}/plain/1", LinkLimits(seconds=3))
    with pytest.raises(OSError, match=r"127\.0\.0\.2 is a private address"):
        fetch_link(f"http://127.0.0.1:{port}/to/http://127.0.0.2:{port}/plain/1", LinkLimits(seconds=3))
