"""Which files of a source are excluded, and why: system files, sidecar files, and the user's patterns.

Each excluded file has its manifest row, `skipped` as `excluded`, with the reason.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from colorize.imaging.formats import IMAGE_SUFFIXES
from colorize.storage.local_root import TEMPORARY_PREFIX

# Thumbnails, trash, snapshots and indexes of network storage and desktops. Names with a leading dot are hidden anyway.
FOLDERS = frozenset(
    ("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharesnap", "#recycle", "#snapshot", "$recycle.bin",
     "recycler", "__macosx", "lost+found", "system volume information", "network trash folder", "temporary items")
)  # fmt: skip
FILES = frozenset(
    ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "zbthumbnail.info", "pspbrwse.jbf",
     "icon\r", "synoindex_media_info")
)  # fmt: skip
ENDINGS = ("@synoeastream", "@synoresource", ":zone.identifier")
# Sidecar files: metadata, edits, checksums, camera thumbnails.
COMPANIONS = (".xmp", ".aae", ".pp3", ".dop", ".cos", ".vrd", ".nksc", ".thm", ".md5", ".sha1", ".sha256", ".sha512")
ARCHIVE_SUFFIX = ".parquet"


# Fast path for millions of names: lower-case names that match none of the above.
_PART = r"[0-9a-z][0-9a-z_ +,=()&'~-]*(?:\.[0-9a-z_ +,=()&'~-]+)*"
_ORDINARY = rf"^(?:{_PART}/)*{_PART}(?:{'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})$"
_OF_SYSTEMS = rf"(?:^|/)(?:{'|'.join(map(re.escape, sorted(FOLDERS)))})/"


@dataclass(frozen=True)
class Exclusion:
    """The rules of one source. Globs match names relative to its root; `*` matches `/`, too."""

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def reason(self, name: str) -> str:
        """Why a file is excluded, or ""."""
        if litter := litter_reason(name):
            return litter
        if self._excluded and self._excluded.match(name):
            return f"matches source.exclude ({', '.join(self.exclude)})"
        if self._included and not self._included.match(name):
            return f"matches none of source.include ({', '.join(self.include)})"
        return ""

    def lets_pass(self, names: pa.Array) -> bool:
        """Whether all names are ordinary image names; otherwise check each with `reason`."""
        if self.include or self.exclude:
            return False
        small = pc.ascii_lower(names)
        if not pc.all(pc.match_substring_regex(small, _ORDINARY)).as_py():
            return False
        return not pc.any(pc.match_substring_regex(small, _OF_SYSTEMS)).as_py()

    @cached_property
    def _included(self) -> re.Pattern[str] | None:
        return _pattern(self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str] | None:
        return _pattern(self.exclude)


def litter_reason(name: str) -> str:
    """Why a name is that of a system, hidden or sidecar file, or ""."""
    above, _, base = name.lower().rpartition("/")
    if above and (reason := _folder_reason(above)):
        return reason
    if base[base.rfind(".") :] in IMAGE_SUFFIXES and not base.startswith("."):  # nearly all
        return ""
    if base.startswith(TEMPORARY_PREFIX):
        return "left by an interrupted run"
    if base in FILES or base.startswith("._") or base.endswith(ENDINGS):
        return "left by an operating system"
    stem, suffix = posixpath.splitext(base)
    if base.startswith(".") and suffix not in (*IMAGE_SUFFIXES, ARCHIVE_SUFFIX):
        return "a hidden file"
    if suffix in COMPANIONS and stem:
        return "a sidecar file of an image"
    if suffix == ARCHIVE_SUFFIX and any(part.startswith(("_", ".")) for part in (*above.split("/"), base)):
        return "a hidden archive, as table formats use for logs"
    return ""


@lru_cache(maxsize=1024)
def _folder_reason(above: str) -> str:
    for folder in above.split("/"):
        if folder in FOLDERS or (folder.startswith(".") and folder not in (".", "..")):
            return f"in the folder {folder}, where systems and programs keep their own"
    return ""


def _pattern(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)) if globs else None
