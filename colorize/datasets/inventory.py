"""The `manifest.json` of an S3 inventory, which lists the inventory's files."""

from __future__ import annotations

import posixpath
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from colorize.errors import UsageError
from colorize.storage.root import Storage, read_file

MANIFEST = "manifest.json"
_MOST_BYTES = 64 << 20  # about a hundred thousand files
_READ = ("csv", "parquet")


class _File(BaseModel):
    key: str


class _Inventory(BaseModel):
    """The fields used: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html"""

    source_bucket: str = Field(alias="sourceBucket")
    destination_bucket: str = Field(alias="destinationBucket")
    format: str = Field(alias="fileFormat")
    file_schema: str = Field(alias="fileSchema")
    files: list[_File]


def inventory_files(uri: str, root: Storage) -> list[str]:
    """The files of the inventory whose `manifest.json` is at `uri`, in its bucket or next to a local copy.

    Raises:
        UsageError: not an inventory, an inventory of another bucket, or an unsupported format.
        OSError: the manifest cannot be read.
    """
    try:
        found = _Inventory.model_validate_json(read_file(uri, _MOST_BYTES))
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{uri} is not the manifest of an S3 inventory: {place}: {first['msg']}") from None
    bucket = root.root.partition("/")[0]
    if root.is_local or found.source_bucket != bucket:
        raise UsageError(
            f"{uri} lists the bucket {found.source_bucket!r}, --input is {root.url()}: name s3://{found.source_bucket}"
        )
    if found.format.lower() not in _READ:
        raise UsageError(f"{uri}: its files are {found.format}; configure the inventory as CSV or Parquet")
    if "islatest" in found.file_schema.replace("_", "").lower():
        raise UsageError(f"{uri} lists all versions of objects; configure the inventory for current versions only")
    return [_place(uri, found.destination_bucket, file.key) for file in found.files]


def _place(uri: str, destination: str, key: str) -> str:
    """The location of a file. A local copy is in `data` next to the manifest's folder, as in S3, or in that folder."""
    if not Storage(uri).is_local:
        return f"s3://{destination.rpartition(':')[2]}/{key}"
    folder, name = Path(Storage(uri).root).parent, posixpath.basename(key)
    return str(next((path for path in (folder.parent / "data" / name, folder / name) if path.exists()), folder / name))
