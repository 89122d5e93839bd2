"""`--input-list FILE`: the names of the inputs from a file, such as a bucket's inventory, instead of a listing."""

from __future__ import annotations

import csv
import gzip
import io
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import IO, cast
from urllib.parse import unquote_plus

from colorize.datasets.inventory import MANIFEST, inventory_files
from colorize.errors import UsageError, one_line
from colorize.settings import nearest
from colorize.storage.parquet import Archive
from colorize.storage.parquet_cells import read_texts
from colorize.storage.root import LEDGER, Storage

LIST_BYTES = 16 << 30
LINE_LENGTH = 1 << 16  # characters; S3 allows keys of 1024 bytes
EMPTY_LINES, ROW_LINES = 250_000, 1000
NAME_LENGTH, NAME_BYTES = 4096, 150  # maximum characters of a name; the driver's overhead per name
FREE_BYTES = 64 << 20  # names may take this much of the driver's disk, plus a multiple of the list's size:
NAMES_RATIO, PARQUET_RATIO = 200, 50  # the latter for gzipped Parquet, which is compressed twice
CHUNK_BYTES = 1 << 20


def read_input_list(uri: str, root: Storage) -> Iterator[str]:
    """The names in a list: one path per line, or the column `path` of a CSV or Parquet file, optionally gzipped.

    Paths may be relative to `root` or full; they are returned relative, in order, with repetitions. The column may also
    be `key`, relative to the bucket, as in S3 inventories, whose CSV has no header. An inventory's `manifest.json`
    includes all of its files. The list is streamed, not loaded into memory.

    Raises:
        UsageError: no such file, no such column, or a path outside the root.
    """
    try:
        files = inventory_files(uri, root) if posixpath.basename(uri) == MANIFEST else [uri]
        for file in files:
            yield from _read(file, root)
    except UsageError:
        raise
    except Exception as error:  # storage libraries and parsers raise many classes
        raise UsageError(f"cannot read the input list {uri}: {one_line(error)}") from None


def _read(uri: str, root: Storage) -> Iterator[str]:
    storage = Storage(uri)
    folder, base = storage.parent(), posixpath.basename(storage.root)
    try:
        size = folder.entry(base).size
    except FileNotFoundError:
        raise UsageError(f"cannot read the input list {uri}: there is no such file") from None
    if size > LIST_BYTES:
        raise UsageError(f"{uri} has {size:,} bytes; at most {LIST_BYTES:,} are read")
    with ExitStack() as stack:
        file = stack.enter_context(folder.open(base))
        if compressed := base.lower().endswith(".gz"):
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
            if base.lower().endswith(".parquet.gz"):  # needs random access
                file = stack.enter_context(_decompressed(file, FREE_BYTES + PARQUET_RATIO * size))
        listed = _listed(base.lower()[: -len(".gz") if compressed else None], file, uri, root)
        for name in _bounded(listed, FREE_BYTES + NAMES_RATIO * size):
            yield _relative(name, root, uri)


def _listed(base: str, file: IO[bytes], uri: str, root: Storage) -> Iterable[str]:
    if base.endswith(".parquet"):
        return _from_parquet(file, uri, root)
    lines = _lines(io.TextIOWrapper(file, "utf-8-sig", newline="\n"))  # not at other Unicode line separators
    if base.endswith(".csv"):
        return _from_csv(lines, uri, root)
    return (line.removesuffix("\n").removesuffix("\r") for line in lines)


def _bounded(names: Iterable[str], max_bytes: int) -> Iterator[str]:
    """The names without empty ones, which count towards the limit: a megabyte may contain half a billion of them.

    Raises ValueError for an implausibly long name, or for names of more than `max_bytes`.
    """
    left = max_bytes
    for name in names:
        if len(name) > NAME_LENGTH:
            raise ValueError(f"a name of {len(name):,} characters, {name[:20]!r}...; at most {NAME_LENGTH:,} are read")
        if (left := left - len(name) - NAME_BYTES) < 0:
            raise ValueError(f"its names take more than {max_bytes:,} bytes, far more than the file's size")
        if name:
            yield name


def _decompressed(compressed: IO[bytes], max_bytes: int) -> IO[bytes]:
    """An unnamed temporary file with the decompressed content."""
    file, left = tempfile.TemporaryFile(prefix="colorize-list-"), max_bytes  # noqa: SIM115 (the caller closes it)
    while chunk := compressed.read(CHUNK_BYTES):
        if (left := left - len(chunk)) < 0:
            raise ValueError(f"it decompresses to more than {max_bytes:,} bytes, far more than its size")
        file.write(chunk)
    return file


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines one by one, so that a decompression bomb is never in memory as a whole.

    Raises ValueError for an implausibly long line, or for too many empty ones.
    """
    empty = 0
    while line := text.readline(LINE_LENGTH):
        empty += line.isspace()
        if len(line) == LINE_LENGTH or empty > EMPTY_LINES:
            raise ValueError(f"a line of {LINE_LENGTH:,} characters, or more than {EMPTY_LINES:,} empty ones")
        yield line


def _from_parquet(file: IO[bytes], uri: str, root: Storage) -> Iterable[str]:
    archive = Archive(file)
    column = _column(archive.schema.names, uri)
    names = (name or "" for name in read_texts(archive, column))
    return names if column == "path" else _in_bucket(names, root)


def _from_csv(lines: Iterator[str], uri: str, root: Storage) -> Iterable[str]:
    rows = _rows(lines)
    first = next(rows, [])
    if (
        not root.is_local and first[:1] == [_bucket(root)] and len(first) > 1
    ):  # an S3 inventory: Bucket, Key, ... without a header
        return _in_bucket((unquote_plus(row[1]) if len(row) > 1 else "" for row in chain([first], rows)), root)
    column = _column(first, uri)
    index = first.index(column)
    names = (row[index] if len(row) > index else "" for row in rows)
    return names if column == "path" else _in_bucket(names, root)


def _rows(lines: Iterator[str]) -> Iterator[list[str]]:
    """The rows of a CSV file. Raises ValueError for a row of implausibly many lines."""
    taken = 0

    def counted() -> Iterator[str]:
        nonlocal taken
        for line in lines:
            taken += 1
            if taken > ROW_LINES:
                raise ValueError(f"a row of more than {ROW_LINES} lines")
            yield line

    for row in csv.reader(counted()):
        taken = 0
        yield row


def _column(columns: Sequence[str], uri: str) -> str:
    for name in ("path", "key"):
        if name in columns:
            return name
    raise UsageError(f"the input list {uri} has no column 'path' or 'key'{nearest('path', columns)}")


def _in_bucket(keys: Iterable[str], root: Storage) -> Iterable[str]:
    """The full names of a bucket's keys; "" for keys of folders."""
    if root.is_local:
        return keys
    bucket = f"{root.protocol}://{_bucket(root)}"
    return (f"{bucket}/{key}" if key and not key.endswith("/") else "" for key in keys)


def _bucket(root: Storage) -> str:
    return root.root.partition("/")[0]


def _relative(name: str, root: Storage, uri: str) -> str:
    below = root.path().rstrip("/") + "/"
    # a full name needs its protocol: "scans/a.jpg" may also be a key in the bucket "scans"
    prefixes = (f"file://{below}", below) if root.is_local else (f"{root.protocol}://{below}",)
    rest = next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)
    clean = posixpath.normpath(rest) if root.is_local else rest  # in a bucket "a//b" and "a/b" differ
    parts = [part for part in clean.split("/") if part not in ("", ".")]  # `PurePath` would intern each forever
    if rest.startswith("/") or "://" in rest or ".." in parts or parts[:1] in ([], [LEDGER]):
        raise UsageError(f"the input list {uri} names {name!r}, which is not an image below {root.url()}")
    return clean
