"""Where single pictures go: never over a source, and no two into one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from PIL import Image

from colorize.errors import UsageError
from colorize.imaging.formats import output_format, output_name
from colorize.imaging.formats.formats import fitting_name

COMPARED = ".compare.jpg"  # what the name of a copy gets, for the sheet beside it that compares it with its source

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "JPEG2000": ".jp2"}


class Destinations:
    """The files that one command writes, for its sources and its `--output`.

    A file's last name is known only when its picture was read, since a suffix may be added: then it is claimed.
    """

    def __init__(self, sources: Sequence[str], output: str | None, overwrite: bool = False) -> None:
        """Nothing is written or asked for yet.

        Args:
            sources: paths and links.
            output: a file if there is one source and it has the suffix of one, else a folder; None is this folder.
            overwrite: whether files that are there already may be replaced.

        Raises:
            UsageError: an output that is no path, or one file for several sources.
        """
        if output is not None and "://" in output:
            raise UsageError(f"--output {output} is no path: use `colorize bulk` to write to a bucket")
        self.sources, self.output, self.overwrite = sources, output, overwrite
        self.path = Path(output or ".")
        self.is_file = bool(self.path.suffix) and not self.path.is_dir()
        if (self.is_file and len(sources) > 1) or (self.path.exists() and not self.path.is_dir() and not self.is_file):
            raise UsageError(f"--output {output} is a file; for {len(sources)} pictures name a folder")
        self._sources = {_local(source) for source in sources if not _is_remote(source)}
        self._claimed: set[Path] = set()

    def copies(self) -> list[Path]:
        """Where each source's colored copy goes, before a suffix is added to what cannot hold color.

        Raises:
            UsageError: it is a source, or two sources would get one name.
        """
        if self.is_file:
            if self._is_source(self.path):
                raise UsageError(f"--output {self.output} is the source itself: choose another name")
            return [self.path]
        targets = [self._copy(base_name(source)) for source in self.sources]
        for index, target in enumerate(targets):
            if target in targets[:index]:
                first = self.sources[targets.index(target)]
                raise UsageError(f"{first} and {self.sources[index]} would both become {target}: color them one by one")
        return targets

    def sheet(self, source: str, suffix: str) -> Path:
        """Where another picture made of `source` goes, claimed: the output's file, or its name with `suffix` in there.

        Raises:
            FileExistsError: see `claim`.
        """
        return self.claim(self.path if self.is_file else self.path / f"{Path(base_name(source)).stem}{suffix}")

    def claim(self, path: Path) -> Path:
        """The same path, which nothing else will be written to.

        Raises:
            FileExistsError: it is a source, was claimed before, or is there already and may not be replaced.
        """
        if self._is_source(path):
            raise FileExistsError(f"its copy would replace the source {path}: name another --output")
        place = path.parent.resolve() / path.name  # a link there is replaced: what it leads to is another place
        if place in self._claimed:
            raise FileExistsError(f"its copy would replace that of another source, {path}: color it by itself")
        if not self.overwrite and os.path.lexists(place):
            raise FileExistsError(f"{path} is there already: --overwrite replaces it")
        self._claimed.add(place)
        return path

    def require_suffix(self, format: str) -> None:
        """Raises OSError if the one file to be written would name another format than that of a copy of `format`."""
        written = output_format(format)
        named = Image.registered_extensions().get(self.path.suffix.lower()) if self.is_file else None
        kept = output_name(self.path.name, format) == self.path.name
        if kept and named and named.replace("MPO", "JPEG") != written:
            right = self.path.with_suffix(_SUFFIXES[written])
            raise OSError(f"a copy keeps the format of its source, {written}: write --output {right}")

    def _copy(self, name: str) -> Path:
        target = self.path / name
        if self.output is None or self._is_source(target):
            return target.with_name(fitting_name(target.stem, f".colorized{target.suffix}"))
        return target

    def _is_source(self, path: Path) -> bool:
        return path.resolve() in self._sources


def base_name(source: str) -> str:
    """The file's name at the end of a path or link."""
    if is_link(source):
        source = unquote(urlparse(source).path)
    return PurePosixPath(source).name or "picture"


def is_link(source: str) -> bool:
    """Whether a source is an http(s) link."""
    return source.partition("://")[0].lower() in ("http", "https")


def _is_remote(source: str) -> bool:
    return "://" in source and not source.startswith("file://")


def _local(source: str) -> Path:
    return Path(source.removeprefix("file://")).resolve()
