"""Lists a bucket's objects flat: page by page, and for many objects in parallel by ranges of keys.

Keys are not paths: a walk by folders would miss keys such as "x//y.jpg" and "/lead.jpg". Ranges are only split at
existing keys. Probing keys that may not exist only balances ranges and never excludes keys, because SeaweedFS 4.48
skips a whole folder if `StartAfter` is the folder's name.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from colorize.storage.list_pages import ENTRIES, fast_parsing
from colorize.storage.listing import Entry, Page, identity_of

MOST_BYTES = 1 << 20  # maximum length of a key; S3 allows 1024
PAGE_KEYS = 1000  # S3's maximum per page
SERIAL_PAGES = 8  # pages listed serially, before parallel listing is worth it
THREADS = 16
WAIT_SECONDS = 0.2
LAST_CHARACTER = "\U0010ffff"
LAST_ASCII = 0x7E

ListAfter = Callable[[str, int], list[str]]  # (key, count) -> at most `count` keys after the key, in order


def client_options() -> dict[str, Any]:
    """The options of s3fs: the region from the environment, and timeouts."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {
        "max_concurrency": 1,  # one request per image; otherwise s3fs requests the size first
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "max_pool_connections": 64},
    }


@dataclass(slots=True, eq=False)
class Range:
    """Keys after `after` up to and including `last`; None is unbounded."""

    after: str
    last: str | None = None
    splitting: bool = False  # whether a thread is searching for its middle

    def contains(self, key: str) -> bool:
        """Whether the key is not after the end."""
        return self.last is None or key <= self.last


@dataclass(frozen=True)
class Bucket:
    """The objects below a prefix, listed with `list_objects_v2` of an s3fs file system."""

    fs: Any
    name: str
    prefix: str
    page_keys: int = PAGE_KEYS
    serial_pages: int = SERIAL_PAGES
    threads: int = THREADS

    def pages(self, cut: int) -> Iterator[Page]:
        """All objects in pages; only the first pages are in order. Names are keys without the first `cut` bytes.

        Empty objects whose keys end in "/" are folder markers and skipped.

        Raises:
            OSError: the listing failed.
        """
        for page in self._objects():
            names = pc.binary_slice(page.names.cast(pa.binary()), cut, MOST_BYTES).cast(pa.string())
            marker = pc.and_(pc.equal(page.sizes, 0), pc.ends_with(page.names, "/"))
            yield Page(names, page.sizes, page.identities).filter(pc.and_not(pc.not_equal(names, ""), marker))

    def _objects(self) -> Iterator[Page]:
        page, answer = self._ask()
        last, in_order, count = "", True, 0
        while True:
            keys = [last, *page.names.to_pylist()]
            in_order, last, count = in_order and keys == sorted(keys), keys[-1], count + 1
            yield page
            if not answer.get("IsTruncated"):
                return
            if in_order and last and count >= self.serial_pages and self.threads > 1:
                yield from _Parallel(self._after, last, self.threads, self.page_keys)
                return
            page, answer = self._ask(ContinuationToken=answer["NextContinuationToken"])

    def _after(self, key: str, count: int) -> Page:
        page, answer = self._ask(StartAfter=key, MaxKeys=count)
        while not page and answer.get("IsTruncated"):
            page, answer = self._ask(ContinuationToken=answer["NextContinuationToken"], MaxKeys=count)
        if page and (first := page.names[0].as_py()) <= key:
            raise OSError(f"s3://{self.name}: the server lists {first!r} after {key!r}, which is not in order")
        return page

    def _ask(self, **options: Any) -> tuple[Page, dict[str, Any]]:
        """A page's objects with their whole keys, and the response."""
        where = {"Bucket": self.name, "Prefix": self.prefix, "MaxKeys": self.page_keys}
        with fast_parsing(self.fs.s3):
            answer: dict[str, Any] = self.fs.call_s3("list_objects_v2", **where | options, **self.fs.req_kw)
        rest = (Entry(item["Key"], int(item["Size"] or 0), identity_of(item)) for item in answer.get("Contents", ()))
        return answer.get(ENTRIES) or Page.of(rest), answer


class _Parallel:
    """Lists the keys after a key in threads, each with a range of keys; an idle thread takes half of another's range.

    Pages go through a bounded queue, so memory does not depend on the number of keys.
    """

    def __init__(self, list_after: Callable[[str, int], Page], after: str, threads: int, page: int) -> None:
        self.list_after = list_after
        self.page = page
        self.threads = threads
        self.ranges = [Range(after)]  # being listed
        self.waiting = list(self.ranges)
        self.changed = threading.Condition()
        self.stopped = threading.Event()
        self.queue: Queue[Page | Exception | None] = Queue(2 * threads)

    def __iter__(self) -> Iterator[Page]:
        workers = [threading.Thread(target=self._work, daemon=True, name="listing") for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        try:
            running = len(workers)
            while running:
                found = self.queue.get()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    running -= 1
                else:
                    yield found
        finally:
            self.stopped.set()
            with suppress(Empty):
                while True:
                    self.queue.get_nowait()

    def _work(self) -> None:
        try:
            while (own := self._next()) is not None:
                self._list(own)
            self._put(None)
        except Exception as error:  # raised by the consumer
            self._put(error)

    def _put(self, found: Page | Exception | None) -> None:
        while not self.stopped.is_set():
            with suppress(Full):
                self.queue.put(found, timeout=WAIT_SECONDS)
                return

    def _list(self, own: Range) -> None:
        more = True  # until a page is empty, because a server may return fewer keys than requested
        while more and not self.stopped.is_set():
            page = self.list_after(own.after, self.page)
            with self.changed:
                mine = page
                if own.last is not None and not pc.all(inside := pc.less_equal(page.names, own.last)).as_py():
                    mine = page.filter(inside)
                last = mine.names[-1].as_py() if mine else own.after
                more = bool(mine) and len(mine) == len(page) and last != own.last
                own.after = last
            if mine:
                self._put(mine)
        with self.changed:
            self.ranges.remove(own)
            self.changed.notify_all()

    def _next(self) -> Range | None:
        """The next range to list, or half of another thread's range; None when all are done."""
        while not self.stopped.is_set():
            with self.changed:
                if self.waiting:
                    return self.waiting.pop()
                if not self.ranges:
                    return None
                free = next((each for each in self.ranges if not each.splitting), None)
                if free is None:
                    self.changed.wait(WAIT_SECONDS)
                    continue
                free.splitting = True
            if part := self._split(free):
                return part
            with self.changed:  # nothing to split at the moment
                self.changed.wait(WAIT_SECONDS)
        return None

    def _split(self, whole: Range) -> Range | None:
        key = middle(lambda after, count: self.list_after(after, count).names.to_pylist(), whole.after, whole.last)
        with self.changed:
            whole.splitting = False
            self.changed.notify_all()
            if key is None or whole not in self.ranges or key <= whole.after or not whole.contains(key):
                return None
            part = Range(key, whole.last)
            whole.last = key
            self.ranges.append(part)  # at the end, so that these are split last
            self.ranges.append(self.ranges.pop(self.ranges.index(whole)))
            return part


def middle(list_after: ListAfter, after: str, last: str | None) -> str | None:
    """A key between two keys, found with a few requests; None if there is none.

    Finds the first position at which the remaining keys differ from `after`, and returns the first key whose character
    at this position is beyond the middle of those that occur.
    """

    def beyond(bound: str) -> str | None:
        found = list_after(bound + LAST_CHARACTER, 1)
        return found[0] if found and (last is None or found[0] < last) else None

    low, high, first = 0, len(after), beyond(after)
    if first is None:
        return None
    while high - low > 1:  # invariant: no key is beyond those that begin with the first `low` characters
        half = (low + high) // 2
        if (key := beyond(after[:half])) is None:
            low = half
        else:
            high, first = half, key
    stem = after[:low]
    top = _last_code(beyond, stem, first)
    code = (ord(after[low]) + top) // 2 if top is not None else ord(LAST_CHARACTER)
    return beyond(stem + _character(code)) or first


def _last_code(beyond: Callable[[str], str | None], stem: str, first: str) -> int | None:
    """The code point of the last character after a stem in any key; None if the server's answers are inconsistent."""
    low, high = ord(first[len(stem)]) if _follows(first, stem) else -1, ord(LAST_CHARACTER)
    half = LAST_ASCII
    while 0 <= low < high:
        if (key := beyond(stem + _character(half))) is None:
            high = max(low, half)
        elif not _follows(key, stem) or ord(key[len(stem)]) <= low:
            return None
        else:
            low = ord(key[len(stem)])
        half = (low + high) // 2
    return low if low >= 0 else None


def _follows(key: str, stem: str) -> bool:
    return key.startswith(stem) and len(key) > len(stem)


def _character(code: int) -> str:
    return chr(0xD7FF if 0xD800 <= code <= 0xDFFF else code)  # surrogates are not valid characters
