"""Where single images go: never over a source, and no two into one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from colorize.errors import UsageError
from colorize.imaging.formats import output_format, output_name
from colorize.imaging.formats.formats import fitting_name
from colorize.predict.inputs import Input, is_remote, local_path, real_path
from colorize.storage.root import Storage, overlap

COMPARED = ".compare.jpg"  # what the name of a copy gets, for the sheet beside it that compares it with its source

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "JPEG2000": ".jp2"}


class Destinations:
    """The files that one command writes, for its inputs and its `--output`.

    A file's last name is known only when its image was read, since a suffix may be added: then it is claimed.
    """

    def __init__(self, inputs: Sequence[Input], output: str | None, overwrite: bool = False) -> None:
        """Nothing is written or asked for yet.

        Args:
            inputs: what is to be colored.
            output: a file if one file or link is named and it has the suffix of one, else a folder. None is this
                folder, and of a folder `scans` its `scans.colorized`.
            overwrite: whether files that are there already may be replaced.

        Raises:
            UsageError: an output that is no path, one file for several inputs, or a folder that overlaps an input's.
        """
        if output is not None and "://" in output:
            raise UsageError(f"--output {output} is no path: use `colorize bulk` to write to a bucket")
        self.inputs, self.output, self.overwrite = inputs, output, overwrite
        self.path = Path(output or ".")
        self.is_file = bool(self.path.suffix) and not (self.path.is_dir() or str(output).endswith("/"))
        several = len(inputs) > 1 or any(each.folder for each in inputs)
        if (self.is_file and several) or (self.path.exists() and not self.path.is_dir() and not self.is_file):
            raise UsageError(f"--output {output} is a file; for {_number(inputs)} name a folder")
        for folder, base in {(each.folder, self._base(each)) for each in inputs if each.folder}:
            if overlap(Storage(folder), Storage(base)):
                raise UsageError(f"the copies of {folder} cannot go into {base}: name an --output outside of it")
        self._sources = {local_path(each.source) for each in inputs if not is_remote(each.source)}
        self._claimed: set[Path] = set()

    def copies(self) -> list[Path]:
        """Where each input's colored copy goes, before a suffix is added to what cannot hold color.

        Raises:
            UsageError: it is a source, or two inputs would get one name.
        """
        if self.is_file:
            if self._is_source(self.path):
                raise UsageError(f"--output {self.output} is the source itself: choose another name")
            return [self.path]
        taken = dict[Path, Input]()
        for each in self.inputs:
            target = self._copy(each)
            if taken.setdefault(target, each) is not each:
                both = f"{taken[target].source} and {each.source}"
                raise UsageError(f"{both} would both become {target}: color them one by one")
        return list(taken)

    def sheet(self, given: Input, suffix: str) -> Path:
        """Where another image made of `given` goes, claimed: the output's file, or its name with `suffix` in there.

        Raises:
            FileExistsError: see `claim`.
            OSError: the output's file is called like another format than PNG.
        """
        name = PurePosixPath(given.name)
        if self.is_file and self.path.suffix.lower() != ".png":
            raise OSError(f"it would be a PNG: write --output {self.path.with_suffix('.png')}")
        return self.claim(self.path if self.is_file else self._base(given) / name.with_name(f"{name.stem}{suffix}"))

    def place(self, given: Input, path: Path) -> tuple[Storage, str]:
        """The folder that the copy of an input may not leave, and its path there: no link in between is followed."""
        root = self.path.parent if self.is_file else self._base(given)
        return Storage(root), path.relative_to(root).as_posix()

    def claim(self, path: Path) -> Path:
        """The same path, which nothing else will be written to.

        Raises:
            FileExistsError: it is a source, was claimed before, or is there already and may not be replaced.
        """
        if self._is_source(path):
            raise FileExistsError(f"its copy would replace the source {path}: name another --output")
        place = real_path(path.parent) / path.name  # a link there is replaced: what it leads to is another place
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
        if not self.is_file or output_name(self.path.name, format) != self.path.name:
            return
        if named is None or named.replace("MPO", "JPEG") != written:
            right = f"{self.path.with_suffix(_SUFFIXES[written])}{'' if named else f', or {self.path}/ for a folder'}"
            raise OSError(f"a copy keeps the format of its source, {written}: write --output {right}")

    def _base(self, given: Input) -> Path:
        """The folder that the input's name is relative to."""
        if given.folder and self.output is None:
            return self.path / fitting_name(local_path(given.folder).name, ".colorized")
        return self.path

    def _copy(self, given: Input) -> Path:
        target = self._base(given) / given.name
        if (self.output is None and not given.folder) or self._is_source(target):
            return target.with_name(fitting_name(target.stem, f".colorized{target.suffix}"))
        return target

    def _is_source(self, path: Path) -> bool:
        return real_path(path) in self._sources


def _number(inputs: Sequence[Input]) -> str:
    return f"{len(inputs)} images" if len(inputs) > 1 else "what is in a folder"
