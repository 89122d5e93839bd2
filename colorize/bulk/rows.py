"""The schemas of the rows between the stages of the bulk job.

A row has the manifest record so far, the encoded image, and the input of the next stage: the small grey image for
the network, then the low-resolution color. Arrays are bytes with separate height and width columns, because Arrow has
no ragged tensors. The stages pass on rows whose `status` is not `ok` unchanged.
"""

from __future__ import annotations

import pyarrow as pa

from colorize.bulk.ledger.manifest import MANIFEST_SCHEMA
from colorize.predict.columns import COLOR_FIELDS, GREY_COLUMNS, PAGE_FIELDS

LOADED_SCHEMA = pa.schema(
    [
        *MANIFEST_SCHEMA,
        ("part", pa.string()),
        ("row", pa.int64()),
        ("name_taken", pa.bool_()),
        ("data", pa.large_binary()),  # the encoded image; empty if the writer reads it again
        ("grey", pa.binary()),  # uint8 (grey_height, grey_width), upright
        ("grey_height", pa.int64()),
        ("grey_width", pa.int64()),
        ("page", pa.int64()),  # 0-based page of the grey image if all pages of a TIFF are written, else -1
        ("more", pa.list_(pa.struct(PAGE_FIELDS))),  # further pages to color
        ("canvas_height", pa.int64()),  # of the canvas for the grey image
        ("canvas_width", pa.int64()),
        ("hints", pa.binary()),  # float32 (n, 4), as in `colorize.imaging.hinting`; empty if there are none
        ("loaded_by", pa.string()),
        ("fetch_seconds", pa.float64()),  # waiting for storage, which the record's `seconds` exclude
    ]
)
INPUT_COLUMNS = (*GREY_COLUMNS, "canvas_height", "canvas_width", "hints", "more")
PREDICTED_FIELDS = (
    pa.field("ab", pa.binary()),  # float16 (2, ab_height, ab_width), Lab units; empty if there is none
    pa.field("ab_height", pa.int64()),
    pa.field("ab_width", pa.int64()),
    pa.field("more_ab", pa.list_(pa.struct(COLOR_FIELDS))),
    pa.field("predicted_by", pa.string()),
    pa.field("predict_seconds", pa.float64()),
)
SUMMARY_SCHEMA = pa.schema(
    [
        ("ok", pa.int64()),
        ("skipped", pa.int64()),
        ("failed", pa.int64()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("seconds", pa.float64()),  # of work, all stages
        ("fetch_seconds", pa.float64()),
        ("predict_seconds", pa.float64()),
        ("errors", pa.list_(pa.string())),  # the code of each failed or skipped row
        ("degraded", pa.int64()),  # rows that used the OOM fallback
        ("parts", pa.list_(pa.string())),  # the archives of the rows
        ("notes", pa.list_(pa.string())),  # see worker_stats.py
        ("manifest_part", pa.string()),  # the file with the rows' records
    ]
)
