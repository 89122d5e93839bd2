"""Errors of Parquet files and rows."""

from __future__ import annotations

import pyarrow as pa

CORRUPT = "corrupt_parquet"
TOO_LARGE = "too_large"  # error code of data that is readable, but refused


class ParquetError(pa.ArrowInvalid):  # type: ignore[misc]
    """A Parquet file cannot be read, or is refused; `code` is an error code of the manifest."""

    def __init__(self, message: str, code: str = CORRUPT) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: Exception) -> str:
    """The manifest's error code for an error of reading Parquet."""
    return error.code if isinstance(error, ParquetError) else CORRUPT


def is_damage(error: Exception) -> bool:
    """Whether the file is damaged, as opposed to a possibly temporary error of the storage.

    Arrow raises plain OSErrors without errno; those of storage have an errno or their own class.
    """
    by_arrow = type(error) is OSError and error.errno is None
    return by_arrow or isinstance(error, pa.ArrowException | UnicodeDecodeError)
