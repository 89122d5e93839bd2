"""`colorize restore-grey`: restores the scan from a colored copy.

A JPEG is restored to a grey JPEG with its luma coefficients, bit for bit. Lossless formats are restored to the
source's `convert("L")`, or at 16 bits round(0.299 R + 0.587 G + 0.114 B), in every pixel, with alpha. For a grey
source this is the scan; for one stored as RGB, including sepia, it is the luminance without the tone. Bilevel sources
are restored as grey 0 and 255. Metadata is kept, except for what describes the colors.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Collection, Iterator, Sequence
from typing import IO, NamedTuple

from colorize.datasets.exclusion import ARCHIVE_SUFFIX
from colorize.errors import UsageError
from colorize.imaging.formats import (
    DecodedImage,
    Encoded,
    Header,
    ImageDecodeError,
    Origin,
    decode,
    decode_header,
    disk_name,
    encode_grey_into,
    encode_grey_pages_into,
    has_pages,
    read_origin,
)
from colorize.imaging.sandbox import Sandbox, fault_of
from colorize.imaging.settings import LimitSettings
from colorize.predict.destinations import COMPARED
from colorize.predict.fetch import IN_MEMORY
from colorize.predict.inputs import RECORDS
from colorize.predict.outcome import Outcome
from colorize.predict.restore_archive import restore_archive
from colorize.storage.faults import require_room
from colorize.storage.local_root import Draft
from colorize.storage.root import Storage, overlap

_GREY_MODES = ("", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I", "LA;16", "L;16")


class _Work(NamedTuple):
    """One image or archive to restore."""

    source: Storage
    name: str
    target: Storage
    target_name: str


def restore_grey(
    sources: Sequence[str],
    output: str,
    limits: LimitSettings | None = None,
    *,
    force: bool = False,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Restores the scans of colored copies; yields the outcome of each.

    Args:
        sources: files, folders and archives, local or in buckets.
        output: a file if it has a suffix and the only source is a file, else a folder, in which names and trees are
            kept.
        limits: for decoding; default: `LimitSettings()`.
        force: restore the luminance of any image, even if it is not a copy with exact luminance.
        overwrite: replace existing files, which may be the scans themselves.

    Raises:
        UsageError: a source does not exist, the output is a source, or two sources would get the same output.
    """
    works = list(_planned(sources, output))
    taken = dict[str, _Work]()
    for work in works:
        other = taken.setdefault(work.target.url(work.target_name), work)
        if other is not work:
            both = " and ".join(w.source.url(w.name) for w in (other, work))
            raise UsageError(f"{both} would both become {work.target.url(work.target_name)}: restore them separately")
    return _outcomes(works, limits or LimitSettings(), force, overwrite)


def _outcomes(works: Sequence[_Work], limits: LimitSettings, force: bool, overwrite: bool) -> Iterator[Outcome]:
    with Sandbox(limits) as sandbox:
        for work in works:
            source, target = work.source.url(work.name), work.target.url(work.target_name)
            if work.source.is_linked_folder(work.name):
                yield Outcome(True, source, "skipped: a link to a folder")
                continue
            try:
                if work.name.lower().endswith(ARCHIVE_SUFFIX):
                    yield from _restored_rows(work, limits, force, overwrite, sandbox)
                else:
                    yield Outcome(True, source, _restored(work, limits, force, overwrite, sandbox), target)
            except Exception as error:  # any fault of one image
                require_room(error)
                yield Outcome(False, source, fault_of(error).message)


def _planned(sources: Sequence[str], output: str) -> Iterator[_Work]:
    roots = [Storage(source) for source in sources]
    single = len(roots) == 1 and roots[0].is_file() and bool(posixpath.splitext(output.rstrip("/"))[1])
    target = Storage(output)
    for root in roots:
        if overlap(root, target):
            raise UsageError(f"--output {output} overlaps {root.url()}: choose another output")
        if single:
            yield _Work(root.parent(), _base(root), target.parent(), _base(target))
        elif root.is_file():
            yield _Work(root.parent(), _base(root), target, _base(root))
        else:
            names = {entry.name for entry in root.entries()}
            stored_as = disk_name if target.is_local else str
            copies = (name for name in sorted(names) if not _is_record(name, names))
            yield from (_Work(root, name, target, stored_as(name)) for name in copies)


def _is_record(name: str, names: Collection[str]) -> bool:
    """Whether a file is not a copy but belongs to one: a bulk run's records, or a comparison sheet."""
    return name.startswith(RECORDS) or (name.endswith(COMPARED) and name.removesuffix(COMPARED) in names)


def _base(storage: Storage) -> str:
    return posixpath.basename(storage.path())


def _restored(work: _Work, limits: LimitSettings, force: bool, overwrite: bool, sandbox: Sandbox) -> str:
    """Restores one image; returns its description. Raises any error of the image."""
    _require_room(work, overwrite)
    data = work.source.load(work.name, work.source.entry(work.name).size, IN_MEMORY, limits.max_bytes)
    if not force:
        sandbox(require_copy, data, limits.max_pixels)
    with work.target.drafted(work.target_name) as draft:
        return sandbox(restore_into, draft, data, limits.max_pixels)


def _restored_rows(
    work: _Work, limits: LimitSettings, force: bool, overwrite: bool, sandbox: Sandbox
) -> Iterator[Outcome]:
    """Restores an archive; yields the outcomes of failed rows, then that of the archive. Raises if all fails."""
    _require_room(work, overwrite)

    def restore(data: bytes) -> bytes:
        if not force:
            sandbox(require_copy, data, limits.max_pixels)
        return sandbox(restored_bytes, data, limits.max_pixels)

    yield from restore_archive(work.source, work.name, work.target, work.target_name, restore, limits.max_bytes)


def _require_room(work: _Work, overwrite: bool) -> None:
    if not overwrite and _is_there(work.target, work.target_name):
        raise FileExistsError(f"{work.target.url(work.target_name)} already exists; --overwrite replaces it")


def require_copy(data: Encoded, max_pixels: int) -> None:
    """Raises ImageDecodeError if an image is not readable, or not known to be a copy with exact luminance."""
    header = decode_header(data)
    if not _refusal(header):
        return
    image = decode(data, max_pixels=max_pixels)  # its metadata may be after the pixels
    if refusal := _refusal(Header(image.info, image.luma_exact, image.metadata)):
        raise ImageDecodeError("no_copy", f"{refusal}; --force extracts its luminance anyway")


def restore_into(draft: Draft, data: Encoded, max_pixels: int) -> str:
    """Writes an image's luminance to a draft; returns a description.

    Raises:
        ImageDecodeError: `data` is not a readable image.
    """
    with draft.open() as out:
        return _write_grey(out, data, max_pixels)


def restored_bytes(data: Encoded, max_pixels: int) -> bytes:
    """Like `restore_into`, but returns the encoded luminance."""
    out = io.BytesIO()
    _write_grey(out, data, max_pixels)
    return out.getvalue()


def _write_grey(out: IO[bytes], data: Encoded, max_pixels: int) -> str:
    image = decode(data, max_pixels=max_pixels)
    if has_pages(image.info):
        encode_grey_pages_into(out, data)
    else:
        encode_grey_into(out, image)
    header = decode_header(data) if has_pages(image.info) else image
    return _description(image, read_origin(header.metadata.xmp))


def _is_there(storage: Storage, name: str) -> bool:
    try:
        storage.entry(name)
    except FileNotFoundError:
        return False
    return True


def _refusal(header: Header) -> str | None:
    origin = read_origin(header.metadata.xmp)
    if origin is None:
        reason = "BMP has no metadata" if header.info.format == "BMP" else "its XMP does not say so"
        return f"not known to be a colored copy ({reason})"
    if not origin.luma_exact or not header.luma_exact:
        return f"its luminance is not exactly that of its source ({header.info.format}, {origin.mode or 'unknown'})"
    return None


def _description(image: DecodedImage, origin: Origin | None) -> str:
    kind = "luma coefficients" if image.info.output_format == "JPEG" and image.luma_exact else "luminance"
    if origin is None:
        return f"{kind} of an image that is not known to be a colored copy"
    if not (origin.luma_exact and image.luma_exact):
        return f"luminance, approximately that of {origin.source}"
    scan = "as scanned" if origin.mode in _GREY_MODES else f"of a source stored as {origin.mode}"
    return f"{kind} {scan}; source {origin.source}, sha256 {origin.source_sha256[:12]}"
