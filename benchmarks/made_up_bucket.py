"""An S3 server with generated listings: any number of objects below `scans/` and `out/`, none of which exists.

Names, sizes and ETags are functions of an object's index. Objects below `out/_colorize/` are real: files of a folder,
with writes kept in memory.

    python -m benchmarks.made_up_bucket COUNT FOLDER      prints its port
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from tests.flat_bucket import FlatServer, Handler, Objects

BUCKET, PER_FOLDER = "madeup", 1000
IN, OUT, LEDGER = "scans/", "out/", "out/_colorize/"


def name_of(number: int) -> str:
    """The name of an object below `scans/` and `out/`; names sort by index."""
    return f"box-{number // PER_FOLDER:06d}/scan-{number:09d}.jpg"


def tag_of(number: int) -> str:
    """Its ETag."""
    return f"{number:032d}"


@cache
def _items_of_a_folder(prefix: str) -> list[str]:
    """A page of entries with a placeholder for the index: built once, to save the server's CPU time."""
    return [
        f"<Contents><Key>{prefix}box-\0/scan-\0{number:03d}.jpg</Key>"
        "<LastModified>2025-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{0:023d}\0{number:03d}&quot;</ETag><Size>{40_000 + number}</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(PER_FOLDER)
    ]


def items_of(prefix: str, start: int, stop: int) -> Iterator[str]:
    """The entries of some objects."""
    while start < stop:
        folder, first = divmod(start, PER_FOLDER)
        some = _items_of_a_folder(prefix)[first : first + stop - start]
        yield "".join(some).replace("\0", f"{folder:06d}")
        start += len(some)


class MadeUp(Handler):
    """Generates listings; handles other requests as `Handler` does."""

    count = 0

    def _list(self, bucket: Objects, options: dict[str, str]) -> None:
        prefix = options.get("prefix", "")
        if prefix not in (IN, OUT):
            super()._list(bucket, options)
            return
        after, most = options.get("continuation-token") or options.get("start-after", ""), int(options["max-keys"])
        numbers = range(self.count)
        start = bisect_right(numbers, after, key=lambda number: prefix + name_of(number))
        stop = min(start + most, self.count)
        more = stop < self.count
        token = f"<NextContinuationToken>{prefix}{name_of(stop - 1)}</NextContinuationToken>" if more else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated><KeyCount>{stop - start}</KeyCount>"
            f"<EncodingType>url</EncodingType>{token}{''.join(items_of(prefix, start, stop))}</ListBucketResult>"
        )
        self._answer(200, body.encode(), **{"Content-Type": "application/xml"})


@lru_cache(maxsize=8)  # of the manifest, which is read range by range
def _read(path: Path) -> bytes:
    return path.read_bytes()


class OnDisk(dict[str, bytes]):
    """Objects that are read from a folder each time; new ones are kept in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, key: str) -> bytes:
        return _read(self.folder / key)

    def get(self, key: str, default: Any = None) -> Any:
        found = key in self
        return self[key] if found else default

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (self.folder / str(key)).is_file()


def main(count: int, folder: Path) -> None:
    """Serves until killed."""
    MadeUp.count = count
    server = FlatServer()
    server.RequestHandlerClass = MadeUp
    objects = server.buckets[BUCKET] = Objects()
    objects.data = OnDisk(folder)
    objects.keys = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert bisect_left(objects.keys, LEDGER) == 0
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
