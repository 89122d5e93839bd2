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
from colorize.predict.steps import Inspection, copy_into, inspect, side_by_side
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
    """Colors images and writes the copies; yields the outcome of each.

    Args:
        sources: files, http(s) links, and folders with all files below them.
        output: a file if it has a suffix and there is a single file or link, else a folder, in which names and trees
            are kept. None means `NAME.colorized.SUFFIX` in the current folder, and `FOLDER.colorized` for a folder.
        model: name, file or URI; see `find_model`.
        settings: of the command.
        compare: also write sheets with grey, colored and original.
        allow_private: allow links to private addresses.
        hints: a file with color hints for the sources (see `colorize.datasets.hints`).
        overwrite: replace existing files; sources are never replaced.

    Raises:
        UsageError: unknown model, hints or settings that it does not support, two sources with the same output, an
            empty folder, or an output that is not a path.
    """
    found = find_model(model)
    inputs, skipped = find_inputs(sources)
    destinations = Destinations(inputs, output, overwrite)
    targets = destinations.copies()
    spots = _hints(hints, found, [each.source for each in inputs])
    upstream = upstream_of(settings.output.processing, found.architecture)
    yield from skipped
    with Sandbox(settings.limits) as sandbox:
        colorizer = PhotoColorizer(found, settings, spots, upstream, destinations, compare, allow_private, sandbox)
        yield from outcomes(
            (each.source, partial(colorizer.color, each, target)) for each, target in zip(inputs, targets, strict=True)
        )


def photo_colorizer(checkpoint: bytes, settings: PhotoSettings) -> Colorizer:
    """A colorizer for a checkpoint on a GPU if there is one and the settings allow it, else on the CPU."""
    device = "cuda" if settings.device != "cpu" and has_gpu() else "cpu"
    return open_colorizer(checkpoint, settings.colorizer, device=device)


def outcomes(jobs: Iterable[tuple[str, Callable[[], tuple[Path, str]]]]) -> Iterator[Outcome]:
    """Runs the job of each source; an image that fails does not stop the others.

    A job returns the path of its output, and a description.

    Raises:
        UsageError: raised by a job.
        StoppedError: the disk is full.
    """
    for source, write in jobs:
        started = time.perf_counter()
        try:
            written, word = write()
        except UsageError:
            raise
        except Exception as error:  # any fault of one image
            require_room(error)
            yield Outcome(False, source, fault_of(error).message)
        else:
            yield Outcome(True, source, f"{word}, {time.perf_counter() - started:.2f} s", str(written))


@dataclass(frozen=True)
class PhotoColorizer:
    """Colors single images, with the parameters of one command."""

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
        return photo_colorizer(self.model.data, sized(self.settings, self.upstream))

    def color(self, given: Input, target: Path) -> tuple[Path, str]:
        """Writes the colored copy of an input; returns its path and the kind of the image."""
        limits, output, area = self.settings.limits, self.settings.output, self.colorizer.size**2
        data = fetch(given, self.allow_private, limits.max_bytes)
        all_pages = output.pages == "all"
        inspection = self.sandbox(inspect, data, area, limits.max_pixels, self.upstream, all_pages=all_pages)
        ab = self._colors(inspection, self.hints.spots(given.source, inspection.small.info), all_pages=all_pages)
        provenance = Provenance(
            self.model.name, self.model.sha256, base_name(given.source), inspection.sha256, output.digital_source_type
        )
        self.destinations.require_suffix(inspection.small.info.format)
        path = self.destinations.claim(target.with_name(output_name(target.name, inspection.small.info.format)))
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
        return path, "; ".join(filter(None, (NAMES[inspection.small.kind], inspection.small.info.note)))

    def _colors(self, inspection: Inspection, spots: Spots, all_pages: bool) -> Ab | dict[int, Ab]:
        """The color of the image, or of each page of a TIFF; hints are for the first page."""
        pages = [Hinted(grey, spots) if number == 0 else grey for number, grey in inspection.greys.items()]
        colors = self.colorizer(pages)
        is_paged = all_pages and has_pages(inspection.small.info)
        return dict(zip(inspection.greys, colors, strict=True)) if is_paged else colors[0]


def _hints(uri: str | None, model: ModelFile, sources: Sequence[str]) -> Hints:
    if uri is None:
        return NO_HINTS
    from colorize.models import require_takes_hints

    require_takes_hints(model.architecture)
    hints = read_hints(uri)
    hints.require_known(sources)
    return hints
