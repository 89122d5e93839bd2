"""`colorize photo`: single images, from files or links, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from colorize.datasets.hints import NO_HINTS, Hints, read_hints
from colorize.errors import UsageError
from colorize.imaging.formats import has_pages, output_name
from colorize.imaging.hinting import Hinted, Spots
from colorize.imaging.sandbox import Sandbox, fault_of
from colorize.imaging.triage import NAMES
from colorize.predict.colorizer import Colorizer
from colorize.predict.destinations import COMPARED, Destinations
from colorize.predict.fetch import fetch
from colorize.predict.inputs import Input, base_name, find_inputs
from colorize.predict.model_files import ModelFile, find_model
from colorize.predict.opening import has_gpu, open_colorizer
from colorize.predict.outcome import Outcome
from colorize.predict.render import Ab, Provenance
from colorize.predict.settings import PhotoSettings
from colorize.predict.steps import Look, copy_into, look, side_by_side
from colorize.predict.upstream import Upstream, sized, upstream_of
from colorize.storage.faults import require_room


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

    A source is a file, a link, or a folder: every file below it. `output` is a file if there is one source, no folder,
    and it has the suffix of one, else a folder, where names and trees are kept; a file that is there already is
    replaced only if it may be (`overwrite`). Without an `output` images go here, as `NAME.colorized.SUFFIX`, and
    those of a folder into `FOLDER.colorized`. Links to private addresses are refused unless `allow_private`. `hints` is
    a file with colors that an image shall have (`colorize.datasets.hints`), which names images as `sources` do.

    Raises:
        UsageError: an unknown model, hints or settings that do not fit it, two sources that would get one name, an
            empty folder, or an output that is no path.
    """
    found = find_model(model)
    inputs, left_out = find_inputs(sources)
    destinations = Destinations(inputs, output, overwrite)
    targets = destinations.copies()
    spots = _hints(hints, found, [each.source for each in inputs])
    upstream = upstream_of(settings.output.processing, found.architecture)
    yield from left_out
    with Sandbox(settings.limits) as sandbox:
        studio = Studio(found, settings, spots, upstream, destinations, compare, allow_private, sandbox)
        yield from outcomes(
            (each.source, partial(studio.color, each, target)) for each, target in zip(inputs, targets, strict=True)
        )


def colorizer_of(checkpoint: bytes, settings: PhotoSettings) -> Colorizer:
    """A checkpoint's network, ready to color on this machine's best device."""
    device = "cuda" if settings.device != "cpu" and has_gpu() else "cpu"
    return open_colorizer(checkpoint, settings.colorizer, device=device)


def outcomes(jobs: Iterable[tuple[str, Callable[[], tuple[Path, str]]]]) -> Iterator[Outcome]:
    """Does what is to be done for each source, one after the other; no image's fault stops any of the others.

    A job returns where its image went, and a word about it.

    Raises:
        UsageError: where a job does.
        StoppedError: the disk is full.
    """
    for source, write in jobs:
        started = time.perf_counter()
        try:
            written, word = write()
        except UsageError:
            raise
        except Exception as error:  # of one image, whatever it is
            require_room(error)
            yield Outcome(False, source, fault_of(error).message)
        else:
            yield Outcome(True, source, f"{word}, {time.perf_counter() - started:.2f} s", str(written))


@dataclass(frozen=True)
class Studio:
    """All that coloring an image needs beside the image."""

    model: ModelFile
    settings: PhotoSettings
    hints: Hints
    upstream: Upstream | None
    destinations: Destinations
    compare: bool
    allow_private: bool
    sandbox: Sandbox

    @cached_property
    def colorizer(self) -> Colorizer:
        return colorizer_of(self.model.data, sized(self.settings, self.upstream))

    def color(self, given: Input, target: Path) -> tuple[Path, str]:
        """Writes the colored copy of an input; returns where, and what the image was."""
        limits, output, area = self.settings.limits, self.settings.output, self.colorizer.size**2
        data = fetch(given, self.allow_private, limits.max_bytes)
        seen = self.sandbox(look, data, area, limits.max_pixels, self.upstream, all_pages=output.pages == "all")
        ab = self._colors(seen, self.hints.spots(given.source, seen.small.info), all_pages=output.pages == "all")
        provenance = Provenance(
            self.model.name, self.model.sha256, base_name(given.source), seen.sha256, output.digital_source_type
        )
        self.destinations.require_suffix(seen.small.info.format)
        path = self.destinations.claim(target.with_name(output_name(target.name, seen.small.info.format)))
        sheet = path.with_name(f"{path.name}{COMPARED}")
        if self.compare:
            self.destinations.claim(sheet)
        folder, name = self.destinations.place(given, path)
        with folder.drafted(name) as draft:
            self.sandbox(
                copy_into,
                draft,
                data,
                ab,
                provenance,
                max_pixels=limits.max_pixels,
                subsampling=output.subsampling,
                upstream=self.upstream,
            )
        if self.compare:
            folder.write(f"{name}{COMPARED}", self.sandbox(side_by_side, data, path, limits.max_pixels))
        return path, "; ".join(filter(None, (NAMES[seen.small.kind], seen.small.info.note)))

    def _colors(self, seen: Look, spots: Spots, all_pages: bool) -> Ab | dict[int, Ab]:
        """The color of the image, or of each page of a TIFF that has several; hints are for the first one."""
        pages = [Hinted(grey, spots) if number == 0 else grey for number, grey in seen.greys.items()]
        colors = self.colorizer(pages)
        return dict(zip(seen.greys, colors, strict=True)) if all_pages and has_pages(seen.small.info) else colors[0]


def _hints(uri: str | None, model: ModelFile, sources: Sequence[str]) -> Hints:
    if uri is None:
        return NO_HINTS
    from colorize.models import require_takes_hints

    require_takes_hints(model.architecture)
    hints = read_hints(uri)
    hints.require_known(sources)
    return hints
