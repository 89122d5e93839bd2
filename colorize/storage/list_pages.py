"""A fast parser of bucket listings: botocore takes 0.1 s per page of 1,000 keys, mostly for dates.

For pages in the usual form of S3 and most servers, key, ETag and size of the objects are parsed to columns. The rest of
the page, and all other pages, are left to botocore.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_plus

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from colorize.storage.listing import Page

ENTRIES = "Entries"  # key of a response for the parsed objects
_EVENT = "before-parse.*.ListObjectsV2"  # with a star, to run before the handlers of `before-parse.s3.*`
_OPEN, _CLOSE = b"<Contents>", b"</Contents>"
_FIELDS = (b"Key>", b"ETag>", b"Size>")
_QUOTES = (b"&quot;", b'"')
_ENCODED = b"<EncodingType>url</EncodingType>"
_NUMBERED = b"&#"  # character references, which differ between XML and HTML
_active: ContextVar[bool] = ContextVar("active", default=False)  # the client may be shared

Text = NDArray[np.uint8]
Positions = NDArray[np.int64]


@contextmanager
def fast_parsing(client: Any) -> Iterator[None]:
    """Within the block, listings of a botocore client have `ENTRIES` instead of `Contents` if they can be parsed."""
    client.meta.events.register(_EVENT, _read, unique_id="colorize-list-pages")  # the id makes it idempotent
    token = _active.set(True)
    try:
        yield
    finally:
        _active.reset(token)


def _read(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """An event handler of botocore that extracts the objects from a response before it is parsed."""
    if not _active.get() or response_dict["status_code"] != 200:
        return
    if found := parse_page(response_dict["body"]):
        customized_response_dict[ENTRIES], response_dict["body"] = found


def parse_page(body: bytes) -> tuple[Page, bytes] | None:
    """The objects of a page with their whole keys, and the page without them; None if botocore has to parse it."""
    start, stop = body.find(_OPEN), body.rfind(_CLOSE) + len(_CLOSE)
    if start < 0 or stop < start:
        return None
    rest = body[:start] + body[stop:]
    try:
        body.decode()
        found = _page(np.frombuffer(body, np.uint8)[start:stop], body.count(_OPEN[:-1]), _ENCODED in rest)
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None
    return (found, rest) if found else None


def _page(text: Text, count: int, encoded: bool) -> Page | None:
    tags = np.flatnonzero(text == ord("<")) + 1
    letters = text[tags]
    begin, *fields = (_find(text, tags, letters, name) for name in (_OPEN[1:], *_FIELDS))
    if any(len(found) != count for found in (begin, *fields)):
        return None
    in_order = (np.diff(np.stack([begin, *fields], axis=1).ravel()) > 0).all()
    if not in_order or any((letters[field + 1] != ord("/")).any() for field in fields):
        return None
    edges = [(tags[field] + len(name), tags[field + 1] - 1) for field, name in zip(fields, _FIELDS, strict=True)]
    keys, etags, sizes = (_column(text, *some) for some in (edges[0], _unquoted(text, *edges[1]), edges[2]))
    unusual = _NUMBERED in _bytes(keys) or any(mark in _bytes(etags) for mark in (b"&", b'"'))
    if unusual or not _bytes(sizes).isdigit() or pc.any(pc.equal(etags, "")).as_py():
        return None
    return Page(_decoded(keys, encoded), sizes.cast(pa.int64()), etags)


def _find(text: Text, tags: Positions, letters: Text, name: bytes) -> Positions:
    """The indices of the tags that begin with a name; `letters` are their first letters."""
    found = np.flatnonzero(letters == name[0])
    for offset, letter in enumerate(name[1:], 1):
        found = found[text[tags[found] + offset] == letter]
    return found


def _unquoted(text: Text, start: Positions, stop: Positions) -> tuple[Positions, Positions]:
    for quote in _QUOTES:
        inner = start + len(quote), stop - len(quote)
        if (inner[0] <= inner[1]).all() and _stands(text, start, quote) and _stands(text, inner[1], quote):
            return inner
    return start, stop


def _stands(text: Text, at: Positions, word: bytes) -> bool:
    return all((text[at + offset] == letter).all() for offset, letter in enumerate(word))


def _column(text: Text, start: Positions, stop: Positions) -> pa.Array:
    """The slices of a text from each start to its stop."""
    offsets = np.concatenate(([0], np.cumsum(stop - start))).astype(np.int32)
    letters = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], stop - start)
    return pa.StringArray.from_buffers(len(start), pa.py_buffer(offsets), pa.py_buffer(text[letters]))


def _bytes(column: pa.Array) -> bytes:
    return bytes(column.buffers()[2])


def _decoded(keys: pa.Array, encoded: bool) -> pa.Array:
    letters = _bytes(keys)
    if b"&" in letters:
        keys = pa.array(map(html.unescape, keys.to_pylist()), pa.string())
    if encoded and (b"%" in letters or b"+" in letters):
        keys = pa.array(map(unquote_plus, keys.to_pylist()), pa.string())
    return keys
