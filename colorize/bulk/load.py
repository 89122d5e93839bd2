"""The load stage: fetches encoded images and decodes the small grey copies for the network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from colorize.bulk.ledger.manifest import PAGES_COLORED, Record
from colorize.bulk.rows import LOADED_SCHEMA
from colorize.bulk.settings import TriageSettings
from colorize.bulk.telemetry import add_work_seconds
from colorize.bulk.worker_stats import note
from colorize.cluster.attempts import task_attempt
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.readers import Raw, Reader
from colorize.errors import one_line
from colorize.imaging.canvas import Canvases, Fitted
from colorize.imaging.formats import (
    ImageDecodeError,
    SmallGrey,
    decode_small,
    decode_small_pages,
    has_pages,
    read_info,
    sha256,
    whole,
)
from colorize.imaging.hinting import Hinted
from colorize.imaging.sandbox import Fault, Guarded, decoding_may_exceed, known_fault
from colorize.imaging.settings import LimitSettings
from colorize.predict.columns import more_pages
from colorize.predict.upstream import Upstream

HASH_TIMEOUT_SECONDS = 2.0  # of a failed image; without a hash, resuming compares only its identity
Pages: TypeAlias = dict[int, SmallGrey]  # by 0-based page number; most images have one


@dataclass(frozen=True, slots=True)
class Stamp:
    """The values that all records of a run share."""

    model: str
    model_sha256: str
    settings_sha256: str
    run: int


@dataclass(frozen=True, slots=True)
class Loader:
    """The picklable parameters of the load stage."""

    reader: Reader
    limits: LimitSettings
    triage: TriageSettings
    canvases: Canvases  # of the network
    area: int  # minimum pixels of the small grey copy
    inline_bytes: int  # the writer reads larger images again
    stamp: Stamp
    hints: Hints = NO_HINTS
    upstream: Upstream | None = None
    all_pages: bool = True  # of a TIFF

    def network_input(self, raw: Raw, small: SmallGrey, page: int = 0) -> Fitted:
        """The network's input for an image. Raises ImageDecodeError, also for a hint outside of it."""
        grey = self._grey(raw, small, page)
        spots = self.hints.spots(raw.path, small.info)
        return self.canvases.fitted(Hinted(grey, spots[:0] if page else spots))

    def _grey(self, raw: Raw, small: SmallGrey, page: int) -> npt.NDArray[np.uint8]:
        if self.upstream is None:
            return small.luma
        return self.upstream.square(raw.data, max_pixels=self.limits.max_pixels, page=page)


def load(units: pa.Table, loader: Loader) -> Iterator[pa.Table]:
    """Loads the units of a table (`UNIT_SCHEMA`); yields tables of a few rows (`LOADED_SCHEMA`)."""
    load_row, is_heavy = partial(_load_row, loader=loader), partial(_is_heavy, loader=loader)
    with Guarded(load_row, loader.limits, isolated=task_attempt() > 0, is_heavy=is_heavy) as guarded:
        for raws, waited in _timed(loader.reader.fetch(units)):
            rows = [_failed_row(raw, row, loader) if isinstance(row := guarded(raw), Fault) else row for raw in raws]
            shared = {"fetch_seconds": waited / max(len(rows), 1), "loaded_by": note("load")}
            for row in rows:
                row |= shared
            add_work_seconds("load", sum(row["seconds"] for row in rows))
            yield pa.Table.from_pylist(rows, schema=LOADED_SCHEMA)


def _timed(fetched: Iterator[list[Raw]]) -> Iterator[tuple[list[Raw], float]]:
    """The fetched images with the seconds spent waiting for them."""
    while True:
        started = time.perf_counter()
        raws = next(fetched, None)
        if raws is None:
            return
        yield raws, time.perf_counter() - started


def _is_heavy(raw: Raw, loader: Loader) -> bool:
    return decoding_may_exceed(raw.data, loader.limits, whole=loader.upstream is not None)


def _load_row(raw: Raw, loader: Loader) -> dict[str, Any]:
    started = time.perf_counter()
    record, inputs = _record(raw, loader), dict[int, Fitted]()
    try:
        record, pages = _examine(raw, loader, record)
        inputs = {number: loader.network_input(raw, small, number) for number, small in pages.items()}
    except (ImageDecodeError, OSError, MemoryError) as error:  # large files are read in place, so any read can fail
        record = record.failed(*_code_and_message(error))
    return _to_row(raw, replace(record, seconds=time.perf_counter() - started), inputs, loader)


def _code_and_message(error: Exception) -> tuple[str, str]:
    """The error code and message for the manifest."""
    return known_fault(error) or ("unreadable", one_line(error))


def _failed_row(raw: Raw, fault: Fault, loader: Loader) -> dict[str, Any]:
    record = _record(raw, loader)
    with suppress(ImageDecodeError, OSError):  # a file that changed or is slow: the row has the original fault
        record = replace(record, sha256_in=sha256(raw.data, HASH_TIMEOUT_SECONDS))
    return _to_row(raw, record.failed(fault.code, fault.message), {}, loader)


def _to_row(raw: Raw, record: Record, inputs: dict[int, Fitted], loader: Loader) -> dict[str, Any]:
    first, fitted = next(iter(inputs.items()), (-1, None))
    is_paged = loader.all_pages and record.format == "TIFF" and record.frames > 1
    return record.as_row() | {
        "page": first if is_paged else -1,
        "more": more_pages([(number, page) for number, page in inputs.items() if number != first]),
        "part": raw.part,
        "row": raw.row,
        "name_taken": raw.name_taken,
        "data": whole(raw.data)
        if (fitted is not None or record.output) and (raw.part or len(raw.data) <= loader.inline_bytes)
        else b"",
        "grey": fitted.grey.tobytes() if fitted is not None else b"",
        "grey_height": fitted.shape[0] if fitted is not None else 0,
        "grey_width": fitted.shape[1] if fitted is not None else 0,
        "canvas_height": fitted.canvas[0] if fitted is not None else 0,
        "canvas_width": fitted.canvas[1] if fitted is not None else 0,
        "hints": fitted.spots.tobytes() if fitted is not None else b"",
    }


def _examine(raw: Raw, loader: Loader, record: Record) -> tuple[Record, Pages]:
    """The record so far, and the pages to color: none if the input is skipped, copied or failed."""
    if raw.skipped:
        return replace(record, status="skipped", error=raw.error, message=raw.message), {}
    if raw.error:
        return record.failed(raw.error, raw.message), {}
    record = replace(record, sha256_in=sha256(raw.data))
    try:
        small = decode_small(raw.data, loader.area, max_pixels=loader.limits.max_pixels)
    except (ImageDecodeError, MemoryError) as error:
        code, message = _code_and_message(error)
        return (_with_size(record, raw) if code == "too_large" else record).failed(code, message), {}
    record = _with_info(record, small)
    min_side = min(record.width, record.height)
    if min_side < loader.limits.min_side:
        reason = f"{record.width} x {record.height} pixels; limits.min_side is {loader.limits.min_side}"
        return record.failed("too_small", reason), {}
    if loader.all_pages and has_pages(small.info):
        smalls = decode_small_pages(raw.data, loader.area, max_pixels=loader.limits.max_pixels)
        return _triaged_pages(record, smalls, loader)
    policy = getattr(loader.triage, small.kind)
    if policy != "color":
        return _skipped(record, copied=policy == "copy"), {}
    return record, {0: small}


def _triaged_pages(record: Record, smalls: Pages, loader: Loader) -> tuple[Record, Pages]:
    """The pages to color. If there are none, the file is copied if any page's policy says so, and skipped otherwise."""
    policies = {number: getattr(loader.triage, small.kind) for number, small in smalls.items()}
    chosen = {number: small for number, small in smalls.items() if policies[number] == "color"}
    if not chosen:
        return _skipped(record, copied="copy" in policies.values()), {}
    others = ", the others copied as they are" if len(chosen) < record.frames else ""
    message = f"{len(chosen)} of {record.frames} {PAGES_COLORED}{others}"
    kind = next(iter(chosen.values())).kind
    return replace(record, triage=kind, message=message), chosen


def _joined_notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _record(raw: Raw, loader: Loader) -> Record:
    stamp = replace(loader.stamp, settings_sha256=loader.hints.digest(raw.path, loader.stamp.settings_sha256))
    return Record(path=raw.path, identity=raw.identity, bytes_in=max(len(raw.data), raw.size), **asdict(stamp))


def _skipped(record: Record, copied: bool) -> Record:
    """A skipped image. If its file is to be copied, `output` is set for the writer."""
    error = "already_color" if record.triage == "color" else f"triage_{record.triage}"
    message = f"classified as {record.triage}: {'copied' if copied else 'skipped'} by triage.{record.triage}"
    return replace(record, status="skipped", error=error, message=message, output=record.path if copied else "")


def _with_size(record: Record, raw: Raw) -> Record:
    """Adds the image's size, so that a later run can check it against its limits."""
    with suppress(ImageDecodeError):  # even the header may be too large
        info = read_info(raw.data)
        record = replace(record, width=info.width, height=info.height)
    return record


def _with_info(record: Record, small: SmallGrey) -> Record:
    info = small.info
    return replace(
        record,
        format=info.format,
        mode=info.mode,
        width=info.width,
        height=info.height,
        frames=info.frames,
        triage=small.kind,
        message=_joined_notes(f"the first of {info.frames} frames or pages" if info.frames > 1 else "", info.note),
    )
