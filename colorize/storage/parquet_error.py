"""Why a Parquet file, or a row of it, is not read."""

from __future__ import annotations

import pyarrow as pa

CORRUPT = "corrupt_parquet"
TOO_LARGE = "too_large"  # the code of what could be read and is not


class ParquetError(pa.ArrowInvalid):  # type: ignore[misc]
    """A Parquet file that is not read; `code` is short and countable, for a manifest row."""

    def __init__(self, message: str, code: str = CORRUPT) -> None:
        super().__init__(message)
        self.code = code


def code_of(error: Exception) -> str:
    """The code of what went wrong while a Parquet file was read."""
    return error.code if isinstance(error, ParquetError) else CORRUPT


def is_damage(error: Exception) -> bool:
    """Whether the file is at fault, not the storage, which may be well again soon.

    Arrow's own OSErrors are just that and have no number; a storage's have one, or a class of their own.
    """
    by_arrow = type(error) is OSError and error.errno is None
    return by_arrow or isinstance(error, pa.ArrowException | UnicodeDecodeError)
