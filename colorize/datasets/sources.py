"""Input sources: a tree of files, Parquet archives, or both, planned as units for load tasks.

Planning happens on the driver and reads names, sizes and Parquet footers, but no images. Only an unusable source
raises; a corrupt file or archive is planned like any other and fails in its row.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from colorize.datasets.archives import OUTPUT_COLUMNS, plan_archives, require_fit
from colorize.datasets.exclusion import ARCHIVE_SUFFIX, Exclusion
from colorize.datasets.input_list import read_input_list
from colorize.datasets.readers import UNIT_SCHEMA, ArchiveReader, FileReader, MixedReader, Reader
from colorize.datasets.settings import SourceSettings
from colorize.datasets.task_size import rows_per_task
from colorize.datasets.units import Listed, list_units, select_units, units_table
from colorize.errors import UsageError
from colorize.imaging.formats import ADDED_SUFFIX, IMAGE_SUFFIXES
from colorize.imaging.settings import SizeLimits
from colorize.storage.grouped import Grouped, groups_of, mapped_array
from colorize.storage.listing import Entry, Page, outside
from colorize.storage.parquet_cells import IMAGE_BYTES
from colorize.storage.root import LEDGER, Storage

__all__ = ["OUTPUT_COLUMNS", "Source", "open_source"]

WINDOW_BLOCKS = 10_000  # each is an object that Ray tracks
PAGE = 1000
_NUMBERED = pa.schema([UNIT_SCHEMA.field("name"), ("number", pa.int64())])


@dataclass(frozen=True)
class Source:
    """A planned source: its reader and its units of work.

    Units of files come before those of archives, and the units of an archive are contiguous.
    """

    reader: Reader
    units: pa.Table = field(repr=False)  # of UNIT_SCHEMA
    parts: dict[str, int] | None = None  # number of rows that each archive waits for; None without archives
    versions: dict[str, str] = field(default_factory=dict)  # the identity of each archive
    least_tasks: int = 1  # for all CPUs to be busy until the end, if there are enough images

    @property
    def storage(self) -> Storage:
        return self.reader.storage

    @property
    def total(self) -> int:
        """Number of planned images."""
        return pc.sum(self.units["count"]).as_py() or 0

    @property
    def rows_per_task(self) -> int:
        """Images per task: from the settings, or by the number and size of the images."""
        return self.reader.settings.rows_per_task or rows_per_task(self.units, self.least_tasks)

    def names(self) -> Iterator[str]:
        """Each unit's name, in order, converted to Python chunk by chunk."""
        return (name for chunk in self.units["name"].chunks for name in chunk.to_pylist())

    def only(self, units: pa.Table, parts: dict[str, int] | None = None) -> Source:
        """This source with fewer units; `parts` are the rows that archives still wait for."""
        return replace(self, units=units, parts=parts)

    def with_columns(self, *names: str) -> Source:
        """This source, which also reads these columns of archives."""
        return replace(self, reader=self.reader.with_columns(names))

    @property
    def files(self) -> int:
        """Number of units that are single files; those of archives follow them."""
        return pc.sum(pc.less(self.units["row_group"], 0)).as_py() or 0

    def blocks(self) -> list[pa.Table]:
        """The units as tables of `UNIT_SCHEMA`, one per load task."""
        return [self.units.slice(start, stop - start).combine_chunks() for start, stop in pairwise(self._edges())]

    def windows(self) -> Iterator[Source]:
        """This source in consecutive parts of bounded size for Ray."""
        edges = self._edges()
        for start, stop in pairwise([*edges[:-1:WINDOW_BLOCKS], edges[-1]]):
            yield replace(self, units=self.units.slice(start, stop - start))

    def _edges(self) -> list[int]:
        """The start of each block, and the end of the last one."""
        files = self.files
        return [*range(0, files, self.rows_per_task), *range(files, self.units.num_rows), self.units.num_rows]


def open_source(
    uri: str, settings: SourceSettings, input_list: str | None = None, limits: SizeLimits | None = None
) -> Source:
    """Plans the source at `uri`: a tree of image files, a single file, Parquet archives, or archives and images.

    In a folder without images every `*.parquet` file is an archive, and other files are ignored. Beside images only
    those with the image column are archives.

    Raises:
        UsageError: nothing is there, it is empty, or no archive has the image column.
    """
    return _plan(Storage(uri, settings.follow_links), input_list, settings, limits or SizeLimits())


def _plan(root: Storage, input_list: str | None, settings: SourceSettings, limits: SizeLimits) -> Source:
    storage, pages = _listing(root, input_list)
    listed = list_units(pages, Exclusion(settings.include, settings.exclude), storage.is_bucket)
    if input_list is not None:  # it may contain duplicates
        listed.units, listed.archives = _each_once(listed.units), list(dict.fromkeys(listed.archives))
    if not listed.units.num_rows and not listed.archives and input_list is not None:
        raise UsageError(f"--input-list {input_list} names no files: it is empty")
    if not listed.units.num_rows and not listed.archives:
        raise UsageError(f"there are no files in {root.uri}: name a folder of images or Parquet archives")
    if not listed.archives:
        return Source(FileReader(storage, settings, limits.max_bytes), _with_taken_names(listed.units))
    return _plan_archives(storage, listed, settings, limits)


def _listing(storage: Storage, input_list: str | None) -> tuple[Storage, Iterable[Page | Sequence[Entry]]]:
    """The root of all names, and the files below it."""
    is_file = storage.is_file()
    if input_list is not None:
        if is_file:
            raise UsageError(f"--input {storage.url()} is a file; with --input-list it must be the root folder")
        names = read_input_list(input_list, storage)
        return storage, iter(lambda: [storage.quick_entry(name) for name in islice(names, PAGE)], [])
    if is_file:
        root = storage.parent()
        return root, [[root.entry(posixpath.basename(storage.root))]]
    return storage, (outside(page, LEDGER) for page in storage.pages())


def _plan_archives(storage: Storage, listed: Listed, settings: SourceSettings, limits: SizeLimits) -> Source:
    plan = plan_archives(storage, listed.archives, settings)
    files = FileReader(storage, settings, limits.max_bytes)
    alone = units_table([unit for unit in plan.units if unit["row_group"] < 0])
    if listed.images and not plan.parts:  # other tables beside images
        return Source(files, _with_taken_names(pa.concat_tables([listed.units, alone])))
    runs = units_table([unit for unit in plan.units if unit["row_group"] >= 0])
    archives = ArchiveReader(storage, settings, max_bytes=min(limits.max_bytes, IMAGE_BYTES))
    if not listed.images:
        require_fit(plan)
        units = pa.concat_tables([_only_archives(listed.units), alone, runs])
        return Source(archives, units, plan.parts, plan.versions)
    images = _with_taken_names(_beside_archives(listed.units))
    return Source(MixedReader(files, archives), pa.concat_tables([images, alone, runs]), plan.parts, plan.versions)


def _only_archives(left_out: pa.Table) -> pa.Table:
    """The excluded units that have an archive's suffix: in a source of archives no other files are inputs."""
    return left_out.filter(pc.match_substring(left_out["name"], ARCHIVE_SUFFIX, ignore_case=True))


def _beside_archives(files: pa.Table) -> pa.Table:
    """Excludes files with a foreign suffix: archives come with dataset cards, scripts and licenses."""
    suffix = [PurePosixPath(name).suffix.lower() for name in files["name"].to_pylist()]
    foreign = pa.array([bool(own) and own not in IMAGE_SUFFIXES for own in suffix], pa.bool_())
    foreign = pc.and_(pc.equal(files["error"], ""), foreign)
    message = "neither an image nor an archive, beside archives"
    for name, text in (("message", message), ("error", "excluded")):
        files = _with(files, name, pc.if_else(foreign, text, files[name]))
    return files


def _each_once(units: pa.Table) -> pa.Table:
    """The units without duplicate names; the first one stays."""
    again = mapped_array(units.num_rows, np.bool_, False)
    with Grouped(_NUMBERED, "name", groups_of(units.num_rows)) as named:
        for table in _numbered(units["name"]):
            named.add(table)
        for group in named:
            first = np.unique(group["name"].combine_chunks().dictionary_encode().indices, return_index=True)[1]
            again[np.delete(group["number"].to_numpy(), first)] = True
    return select_units(units, lambda start, stop: ~again[start:stop]) if again.any() else units


def _numbered(names: pa.ChunkedArray) -> Iterator[pa.Table]:
    first = 0
    for chunk in names.chunks:
        yield pa.table([chunk, np.arange(first, first + len(chunk))], schema=_NUMBERED)
        first += len(chunk)


def _with_taken_names(units: pa.Table) -> pa.Table:
    """Marks the units whose name plus `.png` is another unit's name: see `output_name`."""
    names = units["name"]
    if not pc.any(pc.ends_with(names, ADDED_SUFFIX)).as_py():
        return units
    taken, groups = mapped_array(len(names), np.bool_, False), groups_of(len(names))
    with Grouped(_NUMBERED, "name", groups) as named, Grouped(_NUMBERED, "name", groups) as stems:
        for table in _numbered(names):
            named.add(table)
            suffixed = table.filter(pc.ends_with(table["name"], ADDED_SUFFIX))
            stem = pc.utf8_slice_codeunits(suffixed["name"], 0, -len(ADDED_SUFFIX))
            stems.add(suffixed.set_column(0, _NUMBERED.field("name"), stem))
        for group, others in zip(named, stems, strict=True):
            found = pc.is_in(group["name"], value_set=others["name"])
            taken[group["number"].filter(found).to_numpy()] = True
    return _with(units, "name_taken", pa.array(taken))


def _with(units: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return units.set_column(units.schema.get_field_index(name), units.schema.field(name), values)
