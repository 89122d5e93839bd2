"""A storage root, local or remote, whose files have relative names with `/`.

A thin layer over fsspec with atomic writes, errors translated to one line, and checks that fail within seconds if a
bucket is unreachable or forbidden. A `Storage` is pickled as its URI, without credentials: each process reads
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` from its own environment.
"""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec

from colorize.errors import UsageError
from colorize.imaging.formats import Encoded, FileBytes, check_bytes, whole
from colorize.storage.bucket import Bucket, client_options
from colorize.storage.faults import CHECK_ENDPOINT, ENDPOINT, naming, why_unusable
from colorize.storage.listing import Entry, Page, identity_of, local_entry, walk_local, walk_remote
from colorize.storage.local_files import is_linked_folder, known_status, real_file
from colorize.storage.local_root import TEMPORARY_PREFIX, Draft, LocalRoot, temporary_draft
from colorize.storage.timeout import with_timeout
from colorize.storage.undo import on_failure

T = TypeVar("T")

# Only file storage: wrappers such as `generic::` or `simplecache::` could access any address.
PROTOCOLS = frozenset(
    {"file", "memory", "s3", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "tos", "hdfs", "webhdfs"}
)
PROBE_SECONDS = 10.0  # timeout of checks
DELETE_THREADS = 16
READ_AHEAD = 4 << 20  # bytes; the default of s3fs is 50 MB
PAGE = 1000  # entries of a listing page
LEDGER = "_colorize"  # folder in an output for manifest, report and other files of a run


class Storage:
    """A root URI (path, `file://`, `s3://` or any fsspec URL) and the files below it."""

    def __init__(self, uri: str | os.PathLike[str], follow_links: bool = False) -> None:
        """Parses the URI without accessing the storage.

        Args:
            uri: of the root.
            follow_links: follow links out of a local root when reading.

        Raises:
            UsageError: unknown protocol or invalid URI.
        """
        self.uri, self.follow_links = os.fspath(uri), follow_links
        protocol, _, rest = self.uri.partition("://") if "://" in self.uri else ("file", "", self.uri)
        protocol = protocol.lower()
        self.protocol = {"local": "file", "s3a": "s3"}.get(protocol, protocol)
        if "\0" in rest or not (rest if self.is_local else rest.strip("/")):
            raise UsageError(f"{self.uri!r} is not a folder or bucket")
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"{self.uri!r}: unknown protocol {protocol!r} (use a path, file:// or s3://)")
        self.root = os.path.abspath(os.path.expanduser(rest)) if self.is_local else rest.rstrip("/")  # noqa: PTH100, PTH111

    def __reduce__(self) -> tuple[type[Storage], tuple[str, bool]]:
        return Storage, (self.root if self.is_local else self.uri, self.follow_links)

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    @property
    def is_local(self) -> bool:
        """Whether the files are on a local or mounted disk."""
        return self.protocol == "file"

    @property
    def is_bucket(self) -> bool:
        """Whether the files are objects, whose keys may have empty parts, unlike paths."""
        return self.protocol == "s3"

    @property
    def real_root(self) -> str:
        """The root with links resolved, to compare roots."""
        return os.path.realpath(self.root) if self.is_local else posixpath.normpath(self.root)

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system, created on first use in each process."""
        local = {} if self.is_local else {"use_listings_cache": False}
        return fsspec.filesystem(self.protocol, **local, **(client_options() if self.is_bucket else {}))

    def path(self, name: str = "") -> str:
        """The full path of `name` in the file system."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    @property
    def local(self) -> LocalRoot:
        """The local root, through which all local files are written and deleted."""
        return LocalRoot(self.root)

    def _checked(self, name: str) -> str:
        """Validates a name for writing or deleting.

        Raises:
            OSError: it leads out of the root, or is not normalized.
        """
        if escapes(name, self.is_bucket) or (self.is_local and posixpath.normpath(name) != name):
            raise OSError(f"{name!r} is not a valid name of a file below {self.url()}")
        return name

    def require_no_links(self, *names: str) -> None:
        """Raises `UsageError` if one of these local files or folders, or a direct child of one, is a link."""
        for name in names if self.is_local else ():
            for link in self.local.links(name):
                raise UsageError(f"{self.path(link)} is a link: remove it, or choose another output")

    def url(self, name: str = "") -> str:
        """The path or URL of `name`, for display."""
        return self.path(name) if self.is_local else f"{self.protocol}://{self.path(name)}"

    def read(self, name: str) -> bytes:
        """The whole content of `name`."""
        return self._regular(name).read_bytes() if self.is_local else bytes(self.fs.cat_file(self.path(name)))

    def load(self, name: str, size: int, most: int, max_bytes: int) -> Encoded:
        """The content of `name`: bytes if it has at most `most`, else a local file (a temporary copy of a remote file).

        Args:
            name: of the file.
            size: in bytes, -1 if unknown.
            most: maximum size in memory.
            max_bytes: maximum size at all.

        Raises:
            ImageDecodeError: `too_large`, without reading the file.
        """
        if self.is_local:
            file = FileBytes(self._regular(name))
            check_bytes(len(file), max_bytes)
            return file if len(file) > most else whole(file)
        if size <= most:
            start = self._start(name, min(most, max_bytes) + 1)
            if len(start) <= min(most, max_bytes):
                return start
        check_bytes(self.entry(name).size, max_bytes)  # the file may have changed since it was listed
        copy = temporary_draft()
        with on_failure(copy.discard):
            self.fs.get_file(self.path(name), str(copy.path))
            return FileBytes(copy.path, owned=True)

    def _start(self, name: str, count: int) -> bytes:
        """The first `count` bytes of `name`, or all if there are fewer."""
        try:
            return bytes(self.fs.cat_file(self.path(name), start=0, end=count))
        except OSError as error:  # S3 refuses ranges of empty objects
            if error.errno != errno.EINVAL or self.entry(name).size:
                raise
            return b""

    def write(self, name: str, data: bytes) -> None:
        """Writes `name` atomically, creating folders as needed."""
        if self.is_local:
            with self.build(name) as file:
                file.write(data)
        else:
            self.fs.pipe_file(self.path(self._checked(name)), data)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """Opens a binary file that appears as `name` when the block ends, and not if it fails.

        Local files are temporary files in the same folder, flushed and renamed. Remote files are written by one PUT, or
        by a multipart upload that is completed at the end and aborted on an error.
        """
        if self.is_local:
            with self.build(name) as file:
                yield file
            return
        remote = self.fs.open(self.path(self._checked(name)), "wb")
        with on_failure(_abandon, remote):
            yield remote
        remote.close()

    def draft(self, name: str) -> Draft:
        """Creates an empty file on this machine, for any process to write before it is published as `name`."""
        self._checked(name)
        return self.local.draft(name) if self.is_local else temporary_draft()

    def publish(self, draft: Draft, name: str) -> None:
        """Publishes a draft as `name`, atomically, and removes the draft.

        Local files are flushed and renamed, remote ones uploaded by one PUT or a multipart upload.
        """
        try:
            if self.is_local:
                self.local.move(draft.name, self._checked(name))
            else:
                self.fs.put_file(str(draft.path), self.path(self._checked(name)))
        finally:
            draft.discard()

    @contextmanager
    def build(self, name: str) -> Iterator[IO[bytes]]:
        """Like `create`, but the file is always seekable: a remote file is a draft first."""
        if self.is_local:
            with self.local.build(self._checked(name)) as file:
                yield file
            return
        with self.drafted(name) as draft, draft.open() as file:
            yield file

    @contextmanager
    def drafted(self, name: str) -> Iterator[Draft]:
        """Creates a draft that is published as `name` when the block ends, and discarded if it fails."""
        draft = self.draft(name)
        with on_failure(draft.discard), naming(self.path(name)):
            yield draft
        self.publish(draft, name)

    def open(self, name: str) -> IO[bytes]:
        """Opens `name` for reading as a seekable binary file."""
        if self.is_local:
            return self._regular(name).open("rb")
        opened: IO[bytes] = self.fs.open(self.path(name), "rb", block_size=READ_AHEAD, cache_type="readahead")
        return opened

    def delete(self, name: str) -> None:
        """Deletes `name`, if it exists."""
        if self.is_local:
            self.local.delete(self._checked(name))
        else:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self.path(self._checked(name)))

    def delete_all(self, names: Iterable[str]) -> None:
        """Deletes files concurrently."""
        with ThreadPoolExecutor(DELETE_THREADS) as pool:
            list(pool.map(self.delete, names))

    def delete_tree(self, name: str) -> None:
        """Deletes everything below `name`, if it exists."""
        if self.is_local:
            self.local.delete_tree(self._checked(name))
            return
        self.delete_all(entry.name for entry in self.entries(name))  # `fs.rm` would treat names as glob patterns

    def delete_temporary_files(self) -> None:
        """Deletes temporary files of killed processes; there are none in a bucket."""
        if self.is_local:
            self.local.delete_temporary_files()

    def entries(self, below: str = "") -> Iterator[Entry]:
        """All files below `below`, recursively; a folder that cannot be listed is an entry, too."""
        return chain.from_iterable(self.pages(below))

    def pages(self, below: str = "") -> Iterator[Page | list[Entry]]:
        """Like `entries`, but in pages of about a thousand, with only a few in memory.

        Local files are in order except in huge folders; those of a large bucket are not, and may have names with empty
        parts (`a//b`).
        """
        if self.is_bucket:
            yield from self._objects(below)
            return
        folder = self.path(below)
        if not (Path(folder).exists() if self.is_local else self.fs.exists(folder)):
            return  # like in a bucket, where folders do not exist
        on_disk = self.is_local and walk_local(Path(folder), Path(self.root), self.follow_links)
        walk = on_disk or walk_remote(self.fs, folder, self.root)
        yield from iter(lambda: list(islice(walk, PAGE)), [])

    def _objects(self, below: str) -> Iterator[Page]:
        name, _, folder = self.root.partition("/")
        prefixes = [f"{folder}/" if folder else "", f"{below}/" if below else ""]
        try:
            self.fs.connect()
            yield from Bucket(self.fs, name, "".join(prefixes)).pages(cut=len(prefixes[0].encode()))
        except FileNotFoundError:
            return  # the bucket does not exist

    def entry(self, name: str) -> Entry:
        """The size and identity of one file.

        Raises:
            FileNotFoundError: it does not exist, or is a folder.
        """
        if self.is_local:
            return self._local_entry(name)
        info = self.fs.info(self.path(name))
        if info["type"] != "file":
            raise FileNotFoundError(self.url(name))
        return Entry(name, int(info["size"] or 0), identity_of(info))

    def quick_entry(self, name: str) -> Entry:
        """Size and identity of one local file; unknown (-1 and "") for a remote one, to avoid a request."""
        status = known_status(self.root, name, self.follow_links) if self.is_local else None
        return Entry(name, -1, "") if status is None else local_entry(name, status)

    def parent(self) -> Storage:
        """The folder of a root that is a single file. Links are followed, because the user has named the file."""
        folder = posixpath.dirname(self.root)
        return Storage(folder if self.is_local else f"{self.protocol}://{folder}", follow_links=True)

    def is_file(self) -> bool:
        """Whether the root itself is a file; raises `UsageError` within seconds if it does not exist."""
        kind = self._probe(lambda: self.fs.info(self.root)["type"])
        if kind not in ("file", "directory"):
            raise UsageError(f"cannot use {self.url()}: it is neither a file nor a folder")
        return bool(kind == "file")

    def check_writable(self) -> None:
        """Raises `UsageError` within seconds if the root is not writable. Leaves no files or folders behind."""
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(4)}"

        def write_and_delete() -> None:
            with self.local.remove_created_folders() if self.is_local else nullcontext():
                self.write(name, b"probe")
                self.delete(name)

        self._probe(write_and_delete)

    def is_linked_folder(self, name: str) -> bool:
        """Whether `name` is a link to a local folder."""
        return self.is_local and is_linked_folder(self.path(name))

    def _regular(self, name: str) -> Path:
        """The resolved path of a local file; see `real_file`."""
        return real_file(self.root, name, self.follow_links)

    def _local_entry(self, name: str) -> Entry:
        path = Path(self.path(name))
        if path.is_dir() or not (path.is_symlink() or path.exists()):
            raise FileNotFoundError(self.url(name))
        return local_entry(name, known_status(self.root, name, self.follow_links))

    def _probe(self, check: Callable[[], T]) -> T:
        """Calls `check` with a timeout of `PROBE_SECONDS`, and converts its errors to usage errors."""
        try:
            return with_timeout(PROBE_SECONDS, check)
        except TimeoutError:
            server = f" from {os.environ.get(ENDPOINT, 'Amazon')}: {CHECK_ENDPOINT}" if self.is_bucket else ""
            reason = f"no answer within {PROBE_SECONDS:.0f} s{server or ': check the server and the network'}"
        except Exception as error:  # every storage library has its own exceptions
            reason = why_unusable(error)
        raise UsageError(f"cannot use {self.url()}: {reason}")


def read_file(uri: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The whole content of the file at `uri`.

    Raises:
        UsageError: invalid URI, or the file has more than `most` bytes.
        OSError: it cannot be read.
    """
    storage = Storage(uri)
    folder = storage.parent()
    name = posixpath.basename(storage.root)
    try:
        if most is not None and (size := folder.entry(name).size) > most:
            raise UsageError(f"{uri} has {size:,} bytes; at most {most:,} are read")
        return folder.read(name)
    except FileNotFoundError as error:  # the message of a bucket's error has only the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(uri)) from error
    except (OSError, UsageError):
        raise
    except Exception as error:  # botocore's errors are not OSErrors
        raise OSError(why_unusable(error)) from error


def overlap(source: Storage, target: Storage) -> bool:
    """Whether one root is within the other, with links resolved, so that a run could read its own output."""
    if source.protocol != target.protocol:
        return False
    a, b = source.real_root, target.real_root
    return a == b or a.startswith(b.rstrip("/") + "/") or b.startswith(a.rstrip("/") + "/")


def escapes(name: str, in_bucket: bool = False) -> bool:
    """Whether a relative name could lead out of its root; keys in a bucket may begin with a slash."""
    return not name or (name.startswith("/") and not in_bucket) or ".." in name.split("/") or "\0" in name


def _abandon(remote: Any) -> None:
    remote.discard()
    remote.closed = True  # otherwise its finalizer would complete the upload
