"""Pages of a bucket's list read quickly: botocore takes a tenth of a second for a thousand keys, dates above all.

One regular expression reads a page that is as S3 and most servers send it: each object's key, date, ETag and size in
this order. What is left of the page, and any other page, is botocore's to read.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_plus

from colorize.storage.listing import Entry

ENTRIES = "Entries"  # of an answer: what was read here
_EVENT = "before-parse.*.ListObjectsV2"  # with a star: handlers of `before-parse.s3.*`, one of which parses, come later
_OBJECT = re.compile(
    r"<Contents>\s*<Key>([^<]*)</Key>\s*<LastModified>[^<]*</LastModified>\s*"
    r"<ETag>(?:&quot;|\")?([^<&\"]+)(?:&quot;|\")?</ETag>\s*"
    r"(?:<Checksum(?:Algorithm|Type)>[^<]*</Checksum(?:Algorithm|Type)>\s*)*<Size>(\d+)</Size>"
)
_OPEN, _CLOSE = "<Contents>", "</Contents>"
_ENCODED = "<EncodingType>url</EncodingType>"
_NUMBERED = "&#"  # references to characters, which XML and HTML do not always read alike
_asked: ContextVar[bool] = ContextVar("asked", default=False)  # others may use the same client


@contextmanager
def read_quickly(client: Any) -> Iterator[None]:
    """Lists that a botocore client gets within the block have `ENTRIES` for `Contents`, where they can be read so."""
    client.meta.events.register(_EVENT, _read, unique_id="colorize-list-pages")  # once, however often it is called
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """A handler of botocore's: takes the objects out of a response before it is parsed."""
    if not _asked.get() or response_dict["status_code"] != 200:
        return
    if found := entries_in(response_dict["body"]):
        customized_response_dict[ENTRIES], response_dict["body"] = found


def entries_in(body: bytes) -> tuple[list[Entry], bytes] | None:
    """The objects on a page by their whole keys, and the page without them; None for a page to be left to botocore."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    found = _OBJECT.findall(text)
    if not found or len(found) != text.count(_OPEN[:-1]) or _NUMBERED in text:
        return None
    keys, tags, sizes = zip(*found, strict=True)
    joined = "".join(keys)
    if "&" in joined:
        keys = tuple(map(html.unescape, keys))
    if _ENCODED in text and ("%" in joined or "+" in joined):
        keys = tuple(map(unquote_plus, keys))
    head, _, rest = body.partition(_OPEN.encode())
    return list(map(Entry, keys, map(int, sizes), tags)), head + rest.rpartition(_CLOSE.encode())[2]
