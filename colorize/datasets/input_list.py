"""`--input-list FILE`: the names of the inputs from a file, such as a bucket's inventory, instead of a listing."""

from __future__ import annotations

import csv
import gzip
import io
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote_plus

import pyarrow.parquet as pq

from colorize.errors import UsageError
from colorize.settings import nearest
from colorize.storage.root import LEDGER, Storage, one_line, read_file


def read_input_list(uri: str, root: Storage) -> list[str]:
    """The names in a list: one path a line, or the column `path` of a CSV or Parquet file, gzipped or not.

    Paths may be relative to `root` or full; they come back relative, in the order of the list, each once. Instead of
    `path` the column may be `key`, as in S3's inventories, whose CSV has no header: keys count from the bucket on.

    Raises:
        UsageError: no such file, no such column, or a path outside the root.
    """
    try:
        listed = _listed(posixpath.basename(uri).lower(), read_file(uri), uri, root)
    except UsageError:
        raise
    except Exception as error:  # storage libraries and parsers raise many classes, all of them the list's fault
        raise UsageError(f"cannot read the input list {uri}: {one_line(error)}") from None
    return list(dict.fromkeys(_relative(name, root, uri) for name in listed if name))


def _listed(base: str, data: bytes, uri: str, root: Storage) -> Iterable[str]:
    if base.endswith(".gz"):
        base, data = base.removesuffix(".gz"), gzip.decompress(data)
    if base.endswith(".parquet"):
        return _from_parquet(data, uri, root)
    text = data.decode("utf-8-sig")
    if base.endswith(".csv"):
        return _from_csv(text, uri, root)
    return [line.removesuffix("\r") for line in text.split("\n")]  # and not at every mark that Unicode calls one


def _from_parquet(data: bytes, uri: str, root: Storage) -> Iterable[str]:
    file = pq.ParquetFile(io.BytesIO(data))
    column = _column(file.schema_arrow.names, uri)
    names = [str(name) for name in file.read([column])[column].to_pylist() if name is not None]
    return names if column == "path" else _in_bucket(names, root)


def _from_csv(text: str, uri: str, root: Storage) -> Iterable[str]:
    rows = csv.reader(io.StringIO(text))
    first = next(rows, [])
    if not root.is_local and first[:1] == [_bucket(root)] and len(first) > 1:  # S3's own: Bucket, Key, ...; no header
        return _in_bucket([unquote_plus(row[1]) for row in (first, *rows) if len(row) > 1], root)
    column = _column(first, uri)
    index = first.index(column)
    names = [row[index] for row in rows if len(row) > index]
    return names if column == "path" else _in_bucket(names, root)


def _column(columns: Sequence[str], uri: str) -> str:
    for name in ("path", "key"):
        if name in columns:
            return name
    raise UsageError(f"the input list {uri} has no column 'path' or 'key'{nearest('path', columns)}")


def _in_bucket(keys: Iterable[str], root: Storage) -> list[str]:
    """The full names of a bucket's keys, without those that stand for folders."""
    if root.is_local:
        return list(keys)
    return [f"{root.protocol}://{_bucket(root)}/{key}" for key in keys if not key.endswith("/")]


def _bucket(root: Storage) -> str:
    return root.root.partition("/")[0]


def _relative(name: str, root: Storage, uri: str) -> str:
    below = root.path().rstrip("/") + "/"
    # without its protocol a bucket's path is no full name: the key "scans/a.jpg" of the bucket "scans" begins so, too
    prefixes = (f"file://{below}", below) if root.is_local else (f"{root.protocol}://{below}",)
    rest = next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)
    clean = posixpath.normpath(rest) if root.is_local else rest  # in a bucket "a//b" is a name of its own
    parts = PurePosixPath(clean).parts
    if rest.startswith("/") or "://" in rest or ".." in parts or parts[:1] in ((), (LEDGER,)):
        raise UsageError(f"the input list {uri} names {name!r}, which is no picture below {root.url()}")
    return clean
