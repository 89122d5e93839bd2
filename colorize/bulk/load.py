"""The load stage: fetch the encoded pictures, and make the small grey copy that the network sees."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from colorize.bulk.census import note
from colorize.bulk.ledger.manifest import Record
from colorize.bulk.rows import LOADED_SCHEMA
from colorize.bulk.settings import TriageSettings
from colorize.bulk.telemetry import worked
from colorize.cluster.attempts import task_attempt
from colorize.datasets.hints import NO_HINTS, Hints
from colorize.datasets.readers import Raw, Reader
from colorize.imaging.formats import ImageDecodeError, SmallGrey, decode_small, read_info, sha256, whole
from colorize.imaging.hinting import Hinted, Seen, grey_of, spots_of
from colorize.imaging.sandbox import Careful, Fault, decoding_may_exceed, known_fault
from colorize.imaging.settings import LimitSettings
from colorize.plain_text import one_line
from colorize.predict.upstream import Upstream

BLAMED_SECONDS = 2.0  # for hashing a picture that was given up; without a hash its row holds while its identity does


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every record of a run says alike."""

    model: str
    model_sha256: str
    settings_sha256: str
    run: int


@dataclass(frozen=True, slots=True)
class Loader:
    """The load stage's parameters, in one picklable piece."""

    reader: Reader
    limits: LimitSettings
    triage: TriageSettings
    area: int  # pixels that the network sees
    inline_bytes: int  # larger pictures are not passed on; the writer reads them again
    stamp: Stamp
    hints: Hints = NO_HINTS
    upstream: Upstream | None = None

    def seen(self, raw: Raw, small: SmallGrey) -> Seen:
        """What the network gets to see of a picture. Raises ImageDecodeError, also for a hint outside of it."""
        grey = self.upstream.square(raw.data, max_pixels=self.limits.max_pixels) if self.upstream else small.luma
        spots = self.hints.spots(raw.path, small.info)
        return Hinted(grey, spots) if len(spots) else grey


def load(units: pa.Table, loader: Loader) -> Iterator[pa.Table]:
    """Tables of `LOADED_SCHEMA`, a few rows at a time, for a table of `UNIT_SCHEMA`."""
    examined, is_heavy = partial(_row, loader=loader), partial(_is_heavy, loader=loader)
    with Careful(examined, loader.limits, isolated=task_attempt() > 0, is_heavy=is_heavy) as row_of:
        for raws, waited in _timed(loader.reader.fetch(units)):
            rows = [_blamed(raw, row, loader) if isinstance(row := row_of(raw), Fault) else row for raw in raws]
            for row in rows:
                row["fetch_seconds"] = waited / len(rows)
            worked("load", sum(row["seconds"] for row in rows))
            yield pa.Table.from_pylist(rows, schema=LOADED_SCHEMA)


def _timed(fetched: Iterator[list[Raw]]) -> Iterator[tuple[list[Raw], float]]:
    """What was fetched, and how many seconds it was waited for."""
    while True:
        started = time.perf_counter()
        raws = next(fetched, None)
        if raws is None:
            return
        yield raws, time.perf_counter() - started


def _is_heavy(raw: Raw, loader: Loader) -> bool:
    return decoding_may_exceed(raw.data, loader.limits, whole=loader.upstream is not None)


def _row(raw: Raw, loader: Loader) -> dict[str, Any]:
    started = time.perf_counter()
    record, seen = _record(raw, loader), None
    try:
        record, small = _examine(raw, loader, record)
        if small is not None:
            seen = loader.seen(raw, small)
    except (ImageDecodeError, OSError, MemoryError) as error:  # of a large file any read can fail: it is no copy
        record = record.failed(*_reason(error))
    return _loaded(raw, replace(record, seconds=time.perf_counter() - started), seen, loader)


def _reason(error: Exception) -> tuple[str, str]:
    """Code and message."""
    return known_fault(error) or ("unreadable", one_line(error))


def _blamed(raw: Raw, fault: Fault, loader: Loader) -> dict[str, Any]:
    record = _record(raw, loader)
    with suppress(ImageDecodeError, OSError):  # a file that changed, or is slow: the row says what it was blamed for
        record = replace(record, sha256_in=sha256(raw.data, BLAMED_SECONDS))
    return _loaded(raw, record.failed(fault.code, fault.message), None, loader)


def _loaded(raw: Raw, record: Record, seen: Seen | None, loader: Loader) -> dict[str, Any]:
    return asdict(record) | {
        "part": raw.part,
        "row": raw.row,
        "name_taken": raw.name_taken,
        "data": whole(raw.data)
        if (seen is not None or record.output) and (raw.part or len(raw.data) <= loader.inline_bytes)
        else b"",
        "grey": grey_of(seen).tobytes() if seen is not None else b"",
        "grey_height": seen.shape[0] if seen is not None else 0,
        "grey_width": seen.shape[1] if seen is not None else 0,
        "hints": spots_of(seen).tobytes() if seen is not None else b"",
        "loaded_by": note("load"),
    }


def _examine(raw: Raw, loader: Loader, record: Record) -> tuple[Record, SmallGrey | None]:
    """The record as far as it is known, and the small picture unless the input ends here."""
    if raw.skipped:
        return replace(record, status="skipped", error=raw.error, message=raw.message), None
    if raw.error:
        return record.failed(raw.error, raw.message), None
    record = replace(record, sha256_in=sha256(raw.data))
    try:
        small = decode_small(raw.data, loader.area, max_pixels=loader.limits.max_pixels)
    except (ImageDecodeError, MemoryError) as error:
        code, message = _reason(error)
        return (_sized(record, raw) if code == "too_large" else record).failed(code, message), None
    record = _described(record, small)
    shortest = min(record.width, record.height)
    if shortest < loader.limits.min_side:
        reason = f"{record.width} x {record.height} pixels; limits.min_side is {loader.limits.min_side}"
        return record.failed("too_small", reason), None
    policy = getattr(loader.triage, small.kind)
    if policy != "color":
        return _left_alone(record, copied=policy == "copy"), None
    return record, small


def _record(raw: Raw, loader: Loader) -> Record:
    stamp = replace(loader.stamp, settings_sha256=loader.hints.digest(raw.path, loader.stamp.settings_sha256))
    return Record(path=raw.path, identity=raw.identity, bytes_in=max(len(raw.data), raw.size), **asdict(stamp))


def _left_alone(record: Record, copied: bool) -> Record:
    """A skipped picture; where its file shall be copied, `output` says so to the writer."""
    error = "already_color" if record.triage == "color" else f"triage_{record.triage}"
    words = f"taken for {record.triage}: {'copied as it is' if copied else 'left out'} by triage.{record.triage}"
    return replace(record, status="skipped", error=error, message=words, output=record.path if copied else "")


def _sized(record: Record, raw: Raw) -> Record:
    """With the picture's size, by which a later run tells whether its limits allow it."""
    with suppress(ImageDecodeError):  # too large even for that
        info = read_info(raw.data)
        record = replace(record, width=info.width, height=info.height)
    return record


def _described(record: Record, small: SmallGrey) -> Record:
    info = small.info
    return replace(
        record,
        format=info.format,
        mode=info.mode,
        width=info.width,
        height=info.height,
        frames=info.frames,
        triage=small.kind,
        message=f"the first of {info.frames} frames or pages" if info.frames > 1 else "",
    )
