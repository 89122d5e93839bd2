"""`colorize photo`: single pictures, from files or links, without Ray."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from PIL import Image

from colorize.datasets.hints import NO_HINTS, Hints, read_hints
from colorize.imaging.formats import (
    Encoded,
    FileBytes,
    ImageDecodeError,
    SmallGrey,
    decode_small,
    opened,
    output_name,
    sha256,
)
from colorize.imaging.formats.upright import plain_rgb
from colorize.imaging.hinting import Hinted
from colorize.imaging.triage import NAMES
from colorize.models import require_takes_hints
from colorize.models.checkpoint import load_checkpoint
from colorize.plain_text import one_line
from colorize.predict.colorizer import Colorizer
from colorize.predict.destinations import COMPARED, Destinations, base_name
from colorize.predict.model_files import ModelFile, find_model
from colorize.predict.outcome import Outcome
from colorize.predict.render import Provenance, render_into
from colorize.predict.settings import PhotoSettings
from colorize.predict.upstream import Upstream, sized, upstream_of
from colorize.storage.links import LinkLimits, fetch_link
from colorize.storage.root import Storage, read_file

COMPARE_HEIGHT = 512  # pixels, of the side-by-side picture


def color_photos(
    sources: Sequence[str],
    output: str | None,
    model: str,
    settings: PhotoSettings,
    *,
    compare: bool = False,
    allow_private: bool = False,
    hints: str | None = None,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Colors each source and writes it, never over a source; yields an outcome as each is done.

    `output` is a file if there is one source and it has the suffix of one, else a folder, where names are kept; a file
    that is there already is replaced only if it may be (`overwrite`). Without an `output` pictures go here, as
    `NAME.colorized.SUFFIX`. Links to private addresses are refused unless `allow_private`. `hints` is a file with
    colors that a picture shall have (`colorize.datasets.hints`), which names pictures as `sources` do.

    Raises:
        UsageError: an unknown model, hints or settings that do not fit it, two sources that would get one name, or an
            output that is no path.
    """
    found = find_model(model)
    destinations = Destinations(sources, output, overwrite)
    targets = destinations.copies()
    given = _hints(hints, found, sources)
    upstream = upstream_of(settings.output.processing, found.architecture)
    studio = Studio(found, settings, given, upstream, destinations, compare, allow_private)
    yield from outcomes(
        (source, partial(studio.color, source, target)) for source, target in zip(sources, targets, strict=True)
    )


def colorizer_of(checkpoint: bytes, settings: PhotoSettings) -> Colorizer:
    """A checkpoint's network, ready to color on this machine's best device."""
    device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    return Colorizer.configured(load_checkpoint(checkpoint).model, settings.colorizer, device=device)


def outcomes(jobs: Iterable[tuple[str, Callable[[], tuple[Path, str]]]]) -> Iterator[Outcome]:
    """Does what is to be done for each source, one after the other; a picture's own fault stops none of the others.

    A job returns where its picture went, and a word about it.
    """
    for source, write in jobs:
        started = time.perf_counter()
        try:
            written, word = write()
        except (OSError, ImageDecodeError) as error:
            yield Outcome(False, f"{source}: {one_line(error)}")
        else:
            yield Outcome(True, f"{source} -> {written} ({word}, {time.perf_counter() - started:.2f} s)")


@dataclass(frozen=True)
class Studio:
    """All that coloring a picture needs beside the picture."""

    model: ModelFile
    settings: PhotoSettings
    hints: Hints
    upstream: Upstream | None
    destinations: Destinations
    compare: bool
    allow_private: bool

    @cached_property
    def colorizer(self) -> Colorizer:
        return colorizer_of(self.model.data, sized(self.settings, self.upstream))

    def color(self, source: str, target: Path) -> tuple[Path, str]:
        """Writes the colored copy of `source`; returns where, and what the picture was."""
        data = fetch(source, self.allow_private)
        max_pixels, output = self.settings.limits.max_pixels, self.settings.output
        small = decode_small(data, self.colorizer.size**2, max_pixels=max_pixels)
        grey = self.upstream.square(data, max_pixels=max_pixels) if self.upstream else small.luma
        ab = self.colorizer([Hinted(grey, self.hints.spots(source, small.info))])[0]
        provenance = Provenance(
            self.model.name, self.model.sha256, base_name(source), sha256(data), output.digital_source_type
        )
        self.destinations.require_suffix(small.info.format)
        path = self.destinations.claim(target.with_name(output_name(target.name, small.info.format)))
        side_by_side = path.with_name(f"{path.name}{COMPARED}")
        if self.compare:
            self.destinations.claim(side_by_side)
        with Storage(path.parent).build(path.name) as out:
            render_into(
                out, data, ab, provenance, max_pixels=max_pixels, subsampling=output.subsampling, upstream=self.upstream
            )
        if self.compare:
            Storage(path.parent).write(side_by_side.name, _side_by_side(data, small, FileBytes(path)))
        return path, NAMES[small.kind]


def _hints(uri: str | None, model: ModelFile, sources: Sequence[str]) -> Hints:
    if uri is None:
        return NO_HINTS
    require_takes_hints(model.architecture)
    hints = read_hints(uri)
    hints.require_known(sources)
    return hints


def fetch(source: str, allow_private: bool) -> Encoded:
    """The encoded picture at a path, http(s) link or other URL."""
    if "://" not in source:
        return _local_picture(Path(source))
    if source.startswith(("http://", "https://")):
        return fetch_link(source, LinkLimits(allow_private=allow_private))
    return read_file(source)


def _local_picture(path: Path) -> Encoded:
    if path.is_dir():
        raise IsADirectoryError("a folder: color what is in it with `colorize bulk`")
    try:
        return FileBytes(path) if path.is_file() else path.read_bytes()
    except OSError as error:  # its own text holds the name, which stands before it already
        raise OSError((error.strerror or one_line(error)).lower()) from error


def _side_by_side(source: Encoded, small: SmallGrey, colored: Encoded) -> bytes:
    """Grey, colored and the source as it is, upright, one height, as a JPEG."""
    original = _panel(Image.open(opened(source)))
    panels = [original.convert("L").convert("RGB"), _panel(Image.open(opened(colored))), original]
    sheet = Image.new("RGB", (sum(p.width for p in panels), panels[0].height))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=92)
    return encoded.getvalue()


def _panel(image: Image.Image) -> Image.Image:
    upright = plain_rgb(image)
    width = max(1, round(upright.width * COMPARE_HEIGHT / upright.height))
    return upright.resize((width, COMPARE_HEIGHT), Image.Resampling.LANCZOS)
