"""An S3 server that keeps keys unchanged: SeaweedFS turns "x//y.jpg" into "x/y.jpg", Amazon S3 does not.

It knows what a bulk run asks: lists (version 2), GET with ranges, HEAD, PUT and DELETE, in memory and unsigned.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from s3fs import S3FileSystem

from tests.conftest import S3, environment_of

DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


class Objects:
    """The objects of one bucket, by key."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.data: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        with self.lock:
            if key not in self.data:
                insort(self.keys, key)
            self.data[key] = data

    def delete(self, key: str) -> None:
        with self.lock:
            if self.data.pop(key, None) is not None:
                self.keys.remove(key)

    def page(self, prefix: str, after: str, count: int) -> tuple[list[str], bool]:
        """At most so many keys with a prefix after a key, and whether there are more."""
        with self.lock:
            start = bisect_right(self.keys, after) if after >= prefix else bisect_left(self.keys, prefix)
            some = [key for key in self.keys[start : start + count + 1] if key.startswith(prefix)]
        return some[:count], len(some) > count


class Handler(BaseHTTPRequestHandler):
    """Answers for the server's buckets, addressed by path."""

    protocol_version = "HTTP/1.1"
    server: FlatServer

    def do_GET(self) -> None:
        bucket, key, options = self._asked()
        if not key:
            self._list(bucket, options)
        elif key in bucket.data:
            self._send_object(bucket.data[key])
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        bucket, key, _ = self._asked()
        if key in bucket.data or not key:
            data = bucket.data.get(key, b"")
            self._answer(200, data, ETag=etag(data), **{"Last-Modified": DATE})
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        bucket, key, _ = self._asked()
        data = self._body()
        if key:
            bucket.put(key, data)
        self._answer(200, ETag=etag(data))

    def do_DELETE(self) -> None:
        bucket, key, _ = self._asked()
        bucket.delete(key)
        self._answer(204)

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing."""

    def _asked(self) -> tuple[Objects, str, dict[str, str]]:
        parts = urlsplit(f"http://host{self.path}")
        name, _, key = unquote(parts.path)[1:].partition("/")
        options = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return self.server.buckets.setdefault(name, Objects()), key, options

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "") and "Content-Length" in self.headers:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            return _unchunked(data) if "aws-chunked" in self.headers.get("Content-Encoding", "") else data
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        data = b"".join(pieces)
        return _unchunked(data) if "aws-chunked" in self.headers.get("Content-Encoding", "") else data

    def _list(self, bucket: Objects, options: dict[str, str]) -> None:
        after = options.get("continuation-token") or options.get("start-after", "")
        count = int(options.get("max-keys", "1000"))
        keys, more = bucket.page(options.get("prefix", ""), after, count)
        contents = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(bucket.data[key])}</Size><ETag>{etag(bucket.data[key])}"
            "</ETag><LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        token = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if more else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{len(keys)}</KeyCount>"
            f"<EncodingType>url</EncodingType>{token}{contents}</ListBucketResult>"
        )
        self._answer(200, body.encode(), **{"Content-Type": "application/xml"})

    def _send_object(self, data: bytes) -> None:
        headers = {"ETag": etag(data), "Last-Modified": DATE}
        if not (asked := self.headers.get("Range", "").removeprefix("bytes=")):
            self._answer(200, data, **headers)
            return
        start, _, stop = asked.partition("-")
        first = int(start) if start else max(len(data) - int(stop), 0)
        last = min(int(stop) if start and stop else len(data) - 1, len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._answer(206, data[first : last + 1], **headers)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class FlatServer(ThreadingHTTPServer):
    """Holds the buckets."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.buckets: dict[str, Objects] = {}


@contextmanager
def flat_server() -> Iterator[FlatServer]:
    """The server, with the environment that clients read set for this process."""
    server = FlatServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    S3FileSystem.clear_instance_cache()  # clients are cached by their arguments, not by the environment
    try:
        with environment_of(S3(f"http://127.0.0.1:{server.server_address[1]}", "any", "any")):
            yield server
    finally:
        S3FileSystem.clear_instance_cache()
        server.shutdown()
        server.server_close()


@lru_cache(maxsize=64)
def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _unchunked(data: bytes) -> bytes:
    """Decodes `aws-chunked` encoding: a hexadecimal size before each chunk, checksums after the last."""
    pieces = []
    while data:
        head, _, data = data.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        pieces.append(data[:size])
        data = data[size + 2 :]
    return b"".join(pieces)
