"""S3 inventories, whose manifest lists all files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from colorize.datasets.input_list import read_input_list
from colorize.datasets.inventory import inventory_files
from colorize.errors import UsageError
from colorize.storage.root import Storage
from tests.conftest import S3

SAID = {
    "sourceBucket": "scans", "destinationBucket": "arn:aws:s3:::colored", "version": "2016-11-30",
    "creationTimestamp": "1700000000000", "fileFormat": "CSV", "fileSchema": "Bucket, Key, Size, ETag",
    "files": [{"key": f"of/scans/daily/data/{n}.csv.gz", "size": 1, "MD5checksum": "0"} for n in "ab"],
}  # fmt: skip
ROWS = {"a": '"scans","1931/a%20b.jpg","1"\n"scans","1931/","0"\n', "b": '"scans","1932/c.jpg","1"\n'}


def delivered(storage: Storage, **changes: Any) -> str:
    """Writes an inventory in S3's layout and returns the path of its manifest."""
    for name, rows in ROWS.items():
        storage.write(f"of/scans/daily/data/{name}.csv.gz", gzip.compress(rows.encode()))
    storage.write("of/scans/daily/2026-01-31T01-00Z/manifest.json", json.dumps(SAID | changes).encode())
    return storage.url("of/scans/daily/2026-01-31T01-00Z/manifest.json")


def test_inventory_files_are_read_from_the_manifest_location(s3: S3) -> None:
    manifest = delivered(Storage("s3://colored"))
    assert list(read_input_list(manifest, Storage("s3://scans"))) == ["1931/a b.jpg", "1932/c.jpg"]


def test_a_local_inventory_copy_finds_its_files_beside_it(tmp_path: Path) -> None:
    assert list(read_input_list(delivered(Storage(tmp_path)), Storage("s3://scans"))) == ["1931/a b.jpg", "1932/c.jpg"]
    (tmp_path / "of/scans/daily/2026-01-31T01-00Z/manifest.json").rename(tmp_path / "of/scans/daily/data/manifest.json")
    flat = str(tmp_path / "of/scans/daily/data/manifest.json")
    assert [Path(file).name for file in inventory_files(flat, Storage("s3://scans"))] == ["a.csv.gz", "b.csv.gz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sourceBucket": "other"}, "lists the bucket 'other', --input is s3://scans: name s3://other"),
        ({"fileFormat": "ORC"}, "its files are ORC; configure the inventory as CSV or Parquet"),
        (
            {"fileSchema": "Bucket, Key, VersionId, IsLatest, IsDeleteMarker"},
            "all versions of objects; configure the inventory",
        ),
        ({"files": None}, "is not the manifest of an S3 inventory: files"),
    ],
)
def test_an_invalid_inventory_is_a_usage_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(read_input_list(delivered(Storage(tmp_path), **changes), Storage("s3://scans")))
