"""The output files of single images: never a source, and never the same file twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from colorize.errors import UsageError
from colorize.imaging.formats import output_format, output_name
from colorize.imaging.formats.formats import append_suffix
from colorize.predict.inputs import Input, is_remote, local_path, real_path
from colorize.storage.root import Storage, overlap

COMPARED = ".compare.jpg"  # appended to the name of a copy, for its comparison sheet

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp", "JPEG2000": ".jp2"}


class Destinations:
    """The files that one command writes, for its inputs and its `--output`.

    A file is claimed when its image has been read, because its final name may have an added suffix.
    """

    def __init__(self, inputs: Sequence[Input], output: str | None, overwrite: bool = False) -> None:
        """Checks the output; writes nothing.

        Args:
            inputs: the images to color.
            output: a file if it has a suffix and there is a single file or link, else a folder. None means the current
                folder, or `scans.colorized` for a folder `scans`.
            overwrite: whether existing files may be replaced.

        Raises:
            UsageError: the output is not a path, is one file for several inputs, or overlaps an input folder.
        """
        if output is not None and "://" in output:
            raise UsageError(f"--output {output} is not a path: use `colorize bulk` to write to a bucket")
        self.inputs, self.output, self.overwrite = inputs, output, overwrite
        self.path = Path(output or ".")
        self.is_file = bool(self.path.suffix) and not (self.path.is_dir() or str(output).endswith("/"))
        several = len(inputs) > 1 or any(each.folder for each in inputs)
        if (self.is_file and several) or (self.path.exists() and not self.path.is_dir() and not self.is_file):
            raise UsageError(f"--output {output} is a file; give a folder for {_number(inputs)}")
        for folder, base in {(each.folder, self._base(each)) for each in inputs if each.folder}:
            if overlap(Storage(folder), Storage(base)):
                raise UsageError(f"the copies of {folder} cannot go into {base}: choose an --output outside it")
        self._sources = {local_path(each.source) for each in inputs if not is_remote(each.source)}
        self._claimed: set[Path] = set()

    def copies(self) -> list[Path]:
        """The path of each input's colored copy, before `.png` is appended for formats that are not written.

        Raises:
            UsageError: a path is a source, or two inputs would get the same path.
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
                raise UsageError(f"{both} would both become {target}: color them separately")
        return list(taken)

    def sheet(self, given: Input, suffix: str) -> Path:
        """Claims the path for another PNG made from `given`: the output file, or its stem with `suffix` in the folder.

        Raises:
            FileExistsError: see `claim`.
            OSError: the output file does not have the suffix `.png`.
        """
        name = PurePosixPath(given.name)
        if self.is_file and self.path.suffix.lower() != ".png":
            raise OSError(f"the output is a PNG: use --output {self.path.with_suffix('.png')}")
        return self.claim(self.path if self.is_file else self._base(given) / name.with_name(f"{name.stem}{suffix}"))

    def place(self, given: Input, path: Path) -> tuple[Storage, str]:
        """The output folder, and the path of an input's copy below it; no link below the folder is followed."""
        root = self.path.parent if self.is_file else self._base(given)
        return Storage(root), path.relative_to(root).as_posix()

    def claim(self, path: Path) -> Path:
        """Reserves a path and returns it.

        Raises:
            FileExistsError: it is a source, was claimed before, or exists and may not be replaced.
        """
        if self._is_source(path):
            raise FileExistsError(f"its copy would replace the source {path}: choose another --output")
        place = real_path(path.parent) / path.name  # the last part is not resolved, because a link is replaced
        if place in self._claimed:
            raise FileExistsError(f"its copy would replace that of another source, {path}: color it separately")
        if not self.overwrite and os.path.lexists(place):
            raise FileExistsError(f"{path} already exists: --overwrite replaces it")
        self._claimed.add(place)
        return path

    def require_suffix(self, format: str) -> None:
        """Raises OSError if the suffix of the output file does not match the format of a copy of `format`."""
        written = output_format(format)
        named = Image.registered_extensions().get(self.path.suffix.lower()) if self.is_file else None
        if not self.is_file or output_name(self.path.name, format) != self.path.name:
            return
        if named is None or named.replace("MPO", "JPEG") != written:
            right = f"{self.path.with_suffix(_SUFFIXES[written])}{'' if named else f', or {self.path}/ for a folder'}"
            raise OSError(f"a copy keeps the format of its source, {written}: use --output {right}")

    def _base(self, given: Input) -> Path:
        """The folder that the input's name is relative to."""
        if given.folder and self.output is None:
            return self.path / append_suffix(local_path(given.folder).name, ".colorized")
        return self.path

    def _copy(self, given: Input) -> Path:
        target = self._base(given) / given.name
        if (self.output is None and not given.folder) or self._is_source(target):
            return target.with_name(append_suffix(target.stem, f".colorized{target.suffix}"))
        return target

    def _is_source(self, path: Path) -> bool:
        return real_path(path) in self._sources


def _number(inputs: Sequence[Input]) -> str:
    return f"{len(inputs)} images" if len(inputs) > 1 else "the images of a folder"
