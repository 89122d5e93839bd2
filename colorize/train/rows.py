"""The stages in Ray Data's tasks: fetch encoded images, decode them. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from colorize.cluster.attempts import task_attempt
from colorize.imaging.sandbox import Fault, Guarded, decoding_may_exceed
from colorize.imaging.settings import LimitSettings
from colorize.train.decode import Row, decode_image, shapes
from colorize.train.reading import SplitReader
from colorize.train.settings import DataSettings

ENCODED = pa.schema([("data", pa.large_binary()), ("rate", pa.float32())])
DECODED = pa.schema([("rgb", pa.large_binary()), ("shape", pa.int8()), ("rate", pa.float32())])
BROKEN = -1  # as the shape of a broken image


def fetch(units: pa.Table, *, reader: SplitReader) -> Iterator[pa.Table]:
    """The split's images in some units, as rows of `ENCODED`."""
    for chosen in reader.fetch(units):
        rows = [{"data": data, "rate": rate} for data, rate in chosen]
        yield pa.Table.from_pylist(rows, schema=ENCODED)


def decode(encoded: pa.Table, *, reader: SplitReader) -> pa.Table:
    """Decodes rows of `ENCODED`. An image that takes too long or too much memory, or crashes a decoder, is broken.

    It may kill this process; Ray then retries the task, which decodes each image in a child process.
    """
    limits = LimitSettings()
    function, is_heavy = partial(decode_image, allowed=reader.shapes), partial(decoding_may_exceed, limits=limits)
    with Guarded(function, limits, isolated=task_attempt() > 0, is_heavy=is_heavy) as decoded:
        images = [decoded(data) for data in encoded["data"].to_pylist()]
    found = [None if isinstance(image, Fault) else image for image in images]
    return table_of([Row(*row) for row in zip(found, encoded["rate"].to_pylist(), strict=True)], reader.data)


def table_of(rows: list[Row], data: DataSettings) -> pa.Table:
    """Decoded rows as a table of `DECODED`, for the object store."""
    known = [(height, width, 3) for height, width in shapes(data)]
    columns = {
        "rgb": [b"" if row.rgb is None else row.rgb.tobytes() for row in rows],
        "shape": [BROKEN if row.rgb is None else known.index(row.rgb.shape) for row in rows],
        "rate": [row.rate for row in rows],
    }
    return pa.table(columns, schema=DECODED)


def rows_of(table: pa.Table, data: DataSettings) -> Iterator[Row]:
    """The inverse of `table_of`."""
    known = [(height, width, 3) for height, width in shapes(data)]
    for rgb, shape, rate in zip(table["rgb"], table["shape"].to_pylist(), table["rate"].to_pylist(), strict=True):
        pixels = None if shape == BROKEN else np.frombuffer(rgb.as_buffer(), np.uint8).reshape(known[shape]).copy()
        yield Row(pixels, rate)
