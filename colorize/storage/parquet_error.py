"""Why a Parquet file, or a row of it, is not read."""

from __future__ import annotations

import pyarrow as pa


class ParquetError(pa.ArrowInvalid):  # type: ignore[misc]
    """A Parquet file that is not read; `code` is short and countable, for a manifest row."""

    def __init__(self, message: str, code: str = "corrupt_parquet") -> None:
        super().__init__(message)
        self.code = code


def code_of(error: Exception) -> str:
    """The code of what went wrong while a Parquet file was read."""
    return error.code if isinstance(error, ParquetError) else "corrupt_parquet"
