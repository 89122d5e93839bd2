"""`colorize restore-grey`: the scan back out of a colored copy.

What comes back: of a JPEG its own luma coefficients, in a grey JPEG, bit for bit; of a lossless format the source's
`convert("L")`, or at 16 bits its round(0.299 R + 0.587 G + 0.114 B), for every pixel, and its alpha. Of a source that
was grey that is the scan; of one that was stored as RGB, sepia ones included, it is the luminance, without the tone.
Bilevel sources come back as grey 0 and 255. Metadata stays, but for what was said about the colors.
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
    """One image to restore: where it lies, and where its scan goes."""

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
    """Restores each of `sources` (files and folders, in buckets too) and yields an outcome as each is done.

    `output` is a file if there is one source, a file too, and it has the suffix of one; else a folder, in which names
    and trees below the sources are kept. With `force` the luminance of any image is taken, whatever made it. What is
    there already, which may be the scan itself, is replaced with `overwrite` only.

    Raises:
        UsageError: an absent source, an output that is a source, or two sources that would get one name.
    """
    works = list(_planned(sources, output))
    taken = dict[str, _Work]()
    for work in works:
        other = taken.setdefault(work.target.url(work.target_name), work)
        if other is not work:
            both = " and ".join(w.source.url(w.name) for w in (other, work))
            raise UsageError(f"{both} would both become {work.target.url(work.target_name)}: restore them one by one")
    return _outcomes(works, limits or LimitSettings(), force, overwrite)


def _outcomes(works: Sequence[_Work], limits: LimitSettings, force: bool, overwrite: bool) -> Iterator[Outcome]:
    with Sandbox(limits) as sandbox:
        for work in works:
            source, target = work.source.url(work.name), work.target.url(work.target_name)
            if work.source.is_linked_folder(work.name):
                yield Outcome(True, source, "a link to a folder, left out")
                continue
            try:
                if work.name.lower().endswith(ARCHIVE_SUFFIX):
                    yield from _restored_rows(work, limits, force, overwrite, sandbox)
                else:
                    yield Outcome(True, source, _restored(work, limits, force, overwrite, sandbox), target)
            except Exception as error:  # of one image, whatever it is
                require_room(error)
                yield Outcome(False, source, fault_of(error).message)


def _planned(sources: Sequence[str], output: str) -> Iterator[_Work]:
    roots = [Storage(source) for source in sources]
    single = len(roots) == 1 and roots[0].is_file() and bool(posixpath.splitext(output.rstrip("/"))[1])
    target = Storage(output)
    for root in roots:
        if overlap(root, target):
            raise UsageError(f"--output {output} overlaps {root.url()}: choose another place")
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
    """Whether a file says something of the copies among `names`, and is none."""
    return name.startswith(RECORDS) or (name.endswith(COMPARED) and name.removesuffix(COMPARED) in names)


def _base(storage: Storage) -> str:
    return posixpath.basename(storage.path())


def _restored(work: _Work, limits: LimitSettings, force: bool, overwrite: bool, sandbox: Sandbox) -> str:
    """Writes one scan; returns what it is. Raises what hinders it."""
    _require_room(work, overwrite)
    data = work.source.load(work.name, work.source.entry(work.name).size, IN_MEMORY, limits.max_bytes)
    if not force:
        sandbox(require_copy, data, limits.max_pixels)
    with work.target.drafted(work.target_name) as draft:
        return sandbox(restore_into, draft, data, limits.max_pixels)


def _restored_rows(
    work: _Work, limits: LimitSettings, force: bool, overwrite: bool, sandbox: Sandbox
) -> Iterator[Outcome]:
    """Writes an archive of scans; yields what of it could not be restored, then itself. Raises what hinders all."""
    _require_room(work, overwrite)

    def restore(data: bytes) -> bytes:
        if not force:
            sandbox(require_copy, data, limits.max_pixels)
        return sandbox(restored_bytes, data, limits.max_pixels)

    yield from restore_archive(work.source, work.name, work.target, work.target_name, restore, limits.max_bytes)


def _require_room(work: _Work, overwrite: bool) -> None:
    if not overwrite and _is_there(work.target, work.target_name):
        raise FileExistsError(f"{work.target.url(work.target_name)} is there already; --overwrite replaces it")


def require_copy(data: Encoded, max_pixels: int) -> None:
    """Raises ImageDecodeError where an image is not readable, or not known to be an exact copy."""
    header = decode_header(data)
    if not _refusal(header):
        return
    image = decode(data, max_pixels=max_pixels)  # what is said of it may stand behind the pixels
    if refusal := _refusal(Header(image.info, image.luma_exact, image.metadata)):
        raise ImageDecodeError("no_copy", f"{refusal}; --force takes its luminance anyway")


def restore_into(draft: Draft, data: Encoded, max_pixels: int) -> str:
    """Writes an image's luminance into a draft; returns in a few words what it is.

    Raises:
        ImageDecodeError: `data` is no readable image.
    """
    with draft.open() as out:
        return _write_grey(out, data, max_pixels)


def restored_bytes(data: Encoded, max_pixels: int) -> bytes:
    """An image's luminance, encoded; else as `restore_into`."""
    out = io.BytesIO()
    _write_grey(out, data, max_pixels)
    return out.getvalue()


def _write_grey(out: IO[bytes], data: Encoded, max_pixels: int) -> str:
    image = decode(data, max_pixels=max_pixels)
    if has_pages(image.info):
        encode_grey_pages_into(out, data)
    else:
        encode_grey_into(out, image)
    said = decode_header(data) if has_pages(image.info) else image
    return _what(image, read_origin(said.metadata.xmp))


def _is_there(storage: Storage, name: str) -> bool:
    try:
        storage.entry(name)
    except FileNotFoundError:
        return False
    return True


def _refusal(header: Header) -> str | None:
    origin = read_origin(header.metadata.xmp)
    if origin is None:
        reason = "BMP holds no metadata" if header.info.format == "BMP" else "its XMP says nothing of the kind"
        return f"not known to be a colored copy ({reason})"
    if not origin.luma_exact or not header.luma_exact:
        return f"its luminance is not exactly that of its source ({header.info.format}, {origin.mode or 'unknown'})"
    return None


def _what(image: DecodedImage, origin: Origin | None) -> str:
    """What came back, in a few words."""
    kind = "luma coefficients" if image.info.output_format == "JPEG" and image.luma_exact else "luminance"
    if origin is None:
        return f"{kind} of an image that is not known to be a colored copy"
    if not (origin.luma_exact and image.luma_exact):
        return f"luminance, nearly that of {origin.source}"
    scan = "as scanned" if origin.mode in _GREY_MODES else f"of a source that was {origin.mode}"
    return f"{kind} {scan}; source {origin.source}, sha256 {origin.source_sha256[:12]}"
