"""The write stage: upsamples the color, composes, encodes and stores each image, and writes a manifest part."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import pyarrow as pa

from colorize.bulk.ledger.manifest import Record, record_from
from colorize.bulk.rows import SUMMARY_SCHEMA
from colorize.bulk.settings import OutputSettings
from colorize.bulk.sinks import ImageResult, Sink
from colorize.bulk.telemetry import add_work_seconds, count_completed
from colorize.bulk.worker_stats import note
from colorize.cluster.attempts import task_attempt
from colorize.errors import one_line
from colorize.imaging.formats import (
    Encoded,
    FileBytes,
    ImageDecodeError,
    disk_name,
    output_format,
    output_name,
    pieces,
    sha256,
)
from colorize.imaging.sandbox import Fault, Guarded, known_fault, may_exceed
from colorize.imaging.settings import LimitSettings
from colorize.predict.columns import colors_from
from colorize.predict.render import Provenance, render_into
from colorize.predict.upstream import Upstream
from colorize.storage.faults import storage_exhausted
from colorize.storage.local_root import Draft
from colorize.storage.root import Storage
from colorize.storage.undo import on_failure

LARGE_COLUMNS = ["data", "ab", "more_ab"]
IN_MEMORY_PIXELS = 1 << 24  # larger copies are encoded to a file instead of to memory, except JPEGs


@dataclass(frozen=True, slots=True)
class Writer:
    """The picklable parameters of the write stage."""

    source: Storage
    sink: Sink
    limits: LimitSettings
    output: OutputSettings
    inline_bytes: int  # larger sources are read in place
    on_disk: bool  # whether the output is a local folder
    upstream: Upstream | None = None

    def stored_as(self, name: str) -> str:
        """The output name for a copy."""
        return disk_name(name) if self.on_disk else name


def write(batch: pa.Table, writer: Writer) -> pa.Table:
    """Stores a batch of predicted rows and their manifest part; returns one row of `SUMMARY_SCHEMA`."""
    started = time.perf_counter()
    rows = _rows(batch)
    finish, is_heavy = partial(_finish, writer=writer), partial(_is_heavy, limits=writer.limits)
    with Guarded(finish, writer.limits, isolated=task_attempt() > 0, is_heavy=is_heavy) as guarded:
        stored = writer.sink.write(
            _failed(row, result) if isinstance(result := guarded(row), Fault) else result for row in rows
        )
    records = [replace(record, finished=round(time.time(), 3)) for record in stored]
    part = writer.sink.record(records)
    add_work_seconds("write", time.perf_counter() - started)
    if part:
        count_completed(records)
    notes = {*batch["loaded_by"].to_pylist(), *batch["predicted_by"].to_pylist(), note("write")}
    return _summary(records, batch, sorted(notes), part)


def _rows(batch: pa.Table) -> Iterator[dict[str, Any]]:
    """The batch's rows; large columns are converted to Python one row at a time."""
    large = batch.select(LARGE_COLUMNS)
    for index, row in enumerate(batch.drop_columns(LARGE_COLUMNS).to_pylist()):
        yield row | {name: large[name][index].as_py() for name in LARGE_COLUMNS}


def _is_heavy(row: dict[str, Any], limits: LimitSettings) -> bool:
    return row["status"] == "ok" and may_exceed(row["width"] * row["height"], limits)


def _failed(row: dict[str, Any], fault: Fault) -> ImageResult:
    return ImageResult(record_from(row).failed(fault.code, fault.message), part=row["part"], row=row["row"])


def _finish(row: dict[str, Any], writer: Writer) -> ImageResult:
    """Renders the image of a row; a failure, from an earlier stage or from this one, becomes a failed record."""
    record = record_from(row)
    location = {"part": row["part"], "row": row["row"]}
    if record.status == "skipped" and record.output:
        return _copied(row, record, writer)
    if record.status != "ok":
        return ImageResult(record, **location)
    if not row["ab"]:
        message = "the network's output for this image is not finite; try --set colorizer.precision=float32"
        return ImageResult(record.failed("not_finite", message), **location)
    started = time.perf_counter()
    try:
        record, data = _render(row, record, writer)
    except Exception as error:  # an error of one image becomes its failed record and must not stop the run
        return ImageResult(record.failed(*_code_and_message(error)), **location, fault=_storage_fault(error))
    return ImageResult(replace(record, seconds=record.seconds + time.perf_counter() - started), data, **location)


def _code_and_message(error: Exception) -> tuple[str, str]:
    """The error code and message for the manifest."""
    return known_fault(error) or ("render_failed", f"{type(error).__name__}: {one_line(error)}")


def _storage_fault(error: Exception) -> OSError | None:
    """The error if it affects all images: a full disk."""
    return error if isinstance(error, OSError) and storage_exhausted(error) else None


def _copied(row: dict[str, Any], record: Record, writer: Writer) -> ImageResult:
    """Copies the source's bytes, for the triage policy `copy`."""
    location = {"part": row["part"], "row": row["row"]}
    record = replace(record, output=writer.stored_as(record.output))
    try:
        source = row["data"] or _read_again(record, writer)
        data = _encoded(record, writer, lambda file: file.writelines(pieces(source)), row["part"])
    except (ImageDecodeError, OSError) as error:
        failed = record.failed(getattr(error, "code", "unreadable"), one_line(error))
        return ImageResult(failed, **location, fault=_storage_fault(error))
    record = replace(record, bytes_out=len(source), sha256_out=record.sha256_in, luma_exact=True)
    return ImageResult(record, data, **location)


def _render(row: dict[str, Any], record: Record, writer: Writer) -> tuple[Record, bytes | Draft]:
    source = row["data"] or _read_again(record, writer)
    output = writer.output
    provenance = Provenance(
        record.model, record.model_sha256, record.path, record.sha256_in, output.digital_source_type
    )
    exact = False

    def encode(file: IO[bytes]) -> None:
        nonlocal exact
        exact = render_into(
            file,
            source,
            colors_from(row),
            provenance,
            max_pixels=writer.limits.max_pixels,
            subsampling=output.subsampling,
            upstream=writer.upstream,
        )

    record = replace(record, output=writer.stored_as(output_name(record.path, record.format, row["name_taken"])))
    data = _encoded(record, writer, encode, row["part"])
    copy = FileBytes(data.path) if isinstance(data, Draft) else data
    return replace(record, bytes_out=len(copy), sha256_out=sha256(copy), luma_exact=exact), data


def _encoded(record: Record, writer: Writer, encode: Callable[[IO[bytes]], None], part: str) -> bytes | Draft:
    """The output of `encode`: bytes, or a draft if the image is huge and not in an archive."""
    pixels = record.width * record.height * max(record.frames, 1)
    is_huge = pixels >= IN_MEMORY_PIXELS and output_format(record.format) != "JPEG"
    draft = writer.sink.draft(record.output) if is_huge and not part else None
    if draft is None:
        out = io.BytesIO()
        encode(out)
        return out.getvalue()
    with on_failure(draft.discard), draft.open() as file:
        encode(file)
    return draft


def _read_again(record: Record, writer: Writer) -> Encoded:
    """Reads an image that is not inline. Raises ImageDecodeError if it has changed since it was loaded."""
    data = writer.source.load(record.path, record.bytes_in, writer.inline_bytes, writer.limits.max_bytes)
    if sha256(data) != record.sha256_in:
        raise ImageDecodeError("changed", "the file changed while the job ran; run again")
    return data


def _summary(records: Sequence[Record], batch: pa.Table, notes: Sequence[str], manifest_part: str) -> pa.Table:
    counts = Counter(record.status for record in records)
    row = {
        **{status: counts[status] for status in ("ok", "skipped", "failed")},
        "bytes_in": sum(record.bytes_in for record in records),
        "bytes_out": sum(record.bytes_out for record in records),
        "seconds": sum(record.seconds for record in records),
        **{name: sum(batch[name].to_pylist()) for name in ("fetch_seconds", "predict_seconds")},
        "errors": [record.error for record in records if record.status != "ok"],
        "degraded": sum(bool(record.degraded) for record in records),
        "parts": [name for name in batch["part"].to_pylist() if name],
        "notes": list(notes),
        "manifest_part": manifest_part,
    }
    return pa.Table.from_pylist([row], schema=SUMMARY_SCHEMA)
