"""One storage root, local or remote, whose files are named by relative paths with `/`.

A thin layer over fsspec with the three things that a batch job needs beside it: writes that are never seen half
done, faults translated into one clear line, and a check that answers within seconds when a bucket is
unreachable or forbidden. A `Storage` pickles as its URI: no credential ever travels, every process reads
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL` and `AWS_REGION` from its own environment.
"""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import fsspec

from colorize.errors import UsageError
from colorize.imaging.formats import Encoded, FileBytes, check_bytes, whole
from colorize.storage.bucket import Bucket, client_options
from colorize.storage.faults import CHECK_ENDPOINT, ENDPOINT, naming, why_unusable
from colorize.storage.listing import Entry, Page, identity_of, local_entry, walk_local, walk_remote
from colorize.storage.local_files import is_linked_folder, known_status, real_file
from colorize.storage.local_root import TEMPORARY_PREFIX, Draft, LocalRoot, temporary_draft
from colorize.storage.timeout import within

T = TypeVar("T")
P = ParamSpec("P")

# What holds files and nothing else: wrappers such as `generic::` or `simplecache::` would lead to any address.
PROTOCOLS = frozenset(
    {"file", "memory", "s3", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "tos", "hdfs", "webhdfs"}
)
PROBE_SECONDS = 10.0  # a bucket that has not answered by then is called unreachable
DELETE_THREADS = 16
READ_AHEAD = 4 << 20  # bytes; s3fs would fetch 50 MB more than is asked for, each time
PAGE = 1000  # entries of a listing that come at once
LEDGER = "_colorize"  # the folder under an output that holds what a run says of itself


class Storage:
    """A root URI (path, `file://`, `s3://` or any fsspec URL) and the files below it."""

    def __init__(self, uri: str | os.PathLike[str], follow_links: bool = False) -> None:
        """Nothing is asked for yet.

        Args:
            uri: of the root.
            follow_links: read what links below a local root lead to also where that lies outside.

        Raises:
            UsageError: a protocol that fsspec does not know.
        """
        self.uri, self.follow_links = os.fspath(uri), follow_links
        protocol, _, rest = self.uri.partition("://") if "://" in self.uri else ("file", "", self.uri)
        protocol = protocol.lower()
        self.protocol = {"local": "file", "s3a": "s3"}.get(protocol, protocol)
        if "\0" in rest or not (rest if self.is_local else rest.strip("/")):
            raise UsageError(f"{self.uri!r} names no folder or bucket")
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"{self.uri!r}: unknown protocol {protocol!r} (use a path, file:// or s3://)")
        self.root = os.path.abspath(os.path.expanduser(rest)) if self.is_local else rest.rstrip("/")  # noqa: PTH100, PTH111

    def __reduce__(self) -> tuple[type[Storage], tuple[str, bool]]:
        return Storage, (self.root if self.is_local else self.uri, self.follow_links)

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    @property
    def is_local(self) -> bool:
        """Whether the files are on a disk of this machine (or one mounted there)."""
        return self.protocol == "file"

    @property
    def is_bucket(self) -> bool:
        """Whether the files are objects, whose keys are no paths: any part of one may be empty."""
        return self.protocol == "s3"

    @property
    def real_root(self) -> str:
        """The root with links followed: what tells whether two roots are one place."""
        return os.path.realpath(self.root) if self.is_local else posixpath.normpath(self.root)

    @cached_property
    def fs(self) -> Any:
        """The fsspec file system; its client is made on first use, in the process that uses it."""
        local = {} if self.is_local else {"use_listings_cache": False}
        return fsspec.filesystem(self.protocol, **local, **(client_options() if self.is_bucket else {}))

    def path(self, name: str = "") -> str:
        """The full path of `name` as the file system knows it."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    @property
    def local(self) -> LocalRoot:
        """The root on disk, where alone anything below it is written or removed."""
        return LocalRoot(self.root)

    def _own(self, name: str) -> str:
        """The same name, if it is one that may be written or removed.

        Raises:
            OSError: it leads out of the root, or another name would be the same file.
        """
        if escapes(name, self.is_bucket) or (self.is_local and posixpath.normpath(name) != name):
            raise OSError(f"{name!r} is no name of a file below {self.url()}")
        return name

    def require_unlinked(self, *names: str) -> None:
        """Raises `UsageError` if one of these files or folders, or what lies directly in one, is a link on disk."""
        for name in names if self.is_local else ():
            for link in self.local.links(name):
                raise UsageError(
                    f"{self.path(link)} is a link, which may lead anywhere: remove it, or choose another output"
                )

    def url(self, name: str = "") -> str:
        """`name` as a person would type it."""
        return self.path(name) if self.is_local else f"{self.protocol}://{self.path(name)}"

    def read(self, name: str) -> bytes:
        """The whole content of `name`."""
        return self._regular(name).read_bytes() if self.is_local else bytes(self.fs.cat_file(self.path(name)))

    def load(self, name: str, size: int, most: int, max_bytes: int) -> Encoded:
        """The content of `name`, in memory if it has at most `most` bytes, else as a file here; `size` -1 is unknown.

        That is the file itself on disk, and a temporary copy of one that lies elsewhere.

        Raises:
            ImageDecodeError: `too_large`, for a file of more than `max_bytes`, of which nothing is read.
        """
        if self.is_local:
            file = FileBytes(self._regular(name))
            check_bytes(len(file), max_bytes)
            return file if len(file) > most else whole(file)
        if size <= most:
            start = self._start(name, min(most, max_bytes) + 1)
            if len(start) <= min(most, max_bytes):
                return start
        check_bytes(self.entry(name).size, max_bytes)  # a listing may be older than the file
        copy = temporary_draft()
        with on_failure(copy.discard):
            self.fs.get_file(self.path(name), str(copy.path))
            return FileBytes(copy.path, owned=True)

    def _start(self, name: str, count: int) -> bytes:
        """The first `count` bytes of `name`, or all that there are."""
        try:
            return bytes(self.fs.cat_file(self.path(name), start=0, end=count))
        except OSError as error:  # S3 knows no range of an object without bytes
            if error.errno != errno.EINVAL or self.entry(name).size:
                raise
            return b""

    def write(self, name: str, data: bytes) -> None:
        """Writes `name` whole or not at all, creating folders as needed."""
        if self.is_local:
            with self.build(name) as file:
                file.write(data)
        else:
            self.fs.pipe_file(self.path(self._own(name)), data)

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """A binary file to write `name` through; it appears when the block ends, and never when it fails.

        On disk that is a temporary file in the same folder, flushed and renamed. Elsewhere it is one PUT, or a
        multipart upload that is completed at the end and aborted on a fault.
        """
        if self.is_local:
            with self.build(name) as file:
                yield file
            return
        remote = self.fs.open(self.path(self._own(name)), "wb")
        with on_failure(_abandon, remote):
            yield remote
        remote.close()

    def draft(self, name: str) -> Draft:
        """An empty file on this machine, for any process to write what `publish` shall turn into `name`."""
        self._own(name)
        return self.local.draft(name) if self.is_local else temporary_draft()

    def publish(self, draft: Draft, name: str) -> None:
        """Makes a draft `name`, whole or not at all; the draft is gone then.

        On disk it is flushed and renamed, elsewhere uploaded: by one PUT, or in parts that are completed at the end.
        """
        try:
            if self.is_local:
                self.local.move(draft.name, self._own(name))
            else:
                self.fs.put_file(str(draft.path), self.path(self._own(name)))
        finally:
            draft.discard()

    @contextmanager
    def build(self, name: str) -> Iterator[IO[bytes]]:
        """As `create`, and the file is seekable everywhere: elsewhere than on disk it is a draft first."""
        if self.is_local:
            with self.local.build(self._own(name)) as file:
                yield file
            return
        with self.drafted(name) as draft, draft.open() as file:
            yield file

    @contextmanager
    def drafted(self, name: str) -> Iterator[Draft]:
        """An empty file on this machine, for any process to fill; it becomes `name` when the block ends well."""
        draft = self.draft(name)
        with on_failure(draft.discard), naming(self.path(name)):
            yield draft
        self.publish(draft, name)

    def open(self, name: str) -> IO[bytes]:
        """A seekable binary file to read `name` from in parts."""
        if self.is_local:
            return self._regular(name).open("rb")
        opened: IO[bytes] = self.fs.open(self.path(name), "rb", block_size=READ_AHEAD, cache_type="readahead")
        return opened

    def delete(self, name: str) -> None:
        """Removes `name`; one that is not there is no fault."""
        if self.is_local:
            self.local.delete(self._own(name))
        else:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self.path(self._own(name)))

    def delete_all(self, names: Iterable[str]) -> None:
        """Removes each of them, several at once."""
        with ThreadPoolExecutor(DELETE_THREADS) as pool:
            list(pool.map(self.delete, names))

    def delete_tree(self, name: str) -> None:
        """Removes everything below `name`; nothing there is no fault."""
        if self.is_local:
            self.local.delete_tree(self._own(name))
            return
        self.delete_all(entry.name for entry in self.entries(name))  # `fs.rm` would take names for glob patterns

    def sweep(self) -> None:
        """Removes what killed processes left half done: on disk, temporary files; elsewhere nothing can be seen."""
        if self.is_local:
            self.local.sweep()

    def entries(self, below: str = "") -> Iterator[Entry]:
        """Every file below `below`, recursively; a folder that cannot be listed is an entry, too."""
        return chain.from_iterable(self.pages(below))

    def pages(self, below: str = "") -> Iterator[Page | list[Entry]]:
        """The same some thousand at once: of a bucket each page as it arrives, and never more than a few in memory.

        On disk they are in order but for huge folders; those of a large bucket come in no order. Names may hold empty
        parts there (`a//b`).
        """
        if self.is_bucket:
            yield from self._objects(below)
            return
        folder = self.path(below)
        if not (Path(folder).exists() if self.is_local else self.fs.exists(folder)):
            return  # as in a bucket, where folders do not exist either
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
            return  # no bucket, nothing in it

    def entry(self, name: str) -> Entry:
        """The size and identity of one file.

        Raises:
            FileNotFoundError: there is none, or it is a folder.
        """
        if self.is_local:
            return self._local_entry(name)
        info = self.fs.info(self.path(name))
        if info["type"] != "file":
            raise FileNotFoundError(self.url(name))
        return Entry(name, int(info["size"] or 0), identity_of(info))

    def glance(self, name: str) -> Entry:
        """Size and identity of one file as far as they can be had for nothing: unknown elsewhere than on disk."""
        status = known_status(self.root, name, self.follow_links) if self.is_local else None
        return Entry(name, -1, "") if status is None else local_entry(name, status)

    def parent(self) -> Storage:
        """The folder that the root lies in, for the one file that the root is: its user has named it, link or not."""
        folder = posixpath.dirname(self.root)
        return Storage(folder if self.is_local else f"{self.protocol}://{folder}", follow_links=True)

    def is_file(self) -> bool:
        """Whether the root itself is a file; raises `UsageError`, within seconds, if there is nothing here."""
        kind = self._probe(lambda: self.fs.info(self.root)["type"])
        if kind not in ("file", "directory"):
            raise UsageError(f"cannot use {self.url()}: it is neither a file nor a folder")
        return bool(kind == "file")

    def check_writable(self) -> None:
        """Raises `UsageError`, within seconds, if nothing can be written here. Leaves nothing behind."""
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(4)}"

        def write_and_delete() -> None:
            with self.local.left_as_found() if self.is_local else nullcontext():
                self.write(name, b"can this be written?")
                self.delete(name)

        self._probe(write_and_delete)

    def is_linked_folder(self, name: str) -> bool:
        """Whether `name` is a link to a folder, on disk."""
        return self.is_local and is_linked_folder(self.path(name))

    def _regular(self, name: str) -> Path:
        """Where a local file really lies. Raises as `real_file` does."""
        return real_file(self.root, name, self.follow_links)

    def _local_entry(self, name: str) -> Entry:
        path = Path(self.path(name))
        if path.is_dir() or not (path.is_symlink() or path.exists()):
            raise FileNotFoundError(self.url(name))
        return local_entry(name, known_status(self.root, name, self.follow_links))

    def _probe(self, ask: Callable[[], T]) -> T:
        """The answer of `ask`, its faults as usage errors, and none later than `PROBE_SECONDS`."""
        try:
            return within(PROBE_SECONDS, ask)
        except TimeoutError:
            server = f" from {os.environ.get(ENDPOINT, 'Amazon')}: {CHECK_ENDPOINT}" if self.is_bucket else ""
            reason = f"no answer within {PROBE_SECONDS:.0f} s{server or '; is the server up, and the network open?'}"
        except Exception as error:  # every storage library has its own exceptions
            reason = why_unusable(error)
        raise UsageError(f"cannot use {self.url()}: {reason}")


def read_file(uri: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The whole content of the one file at `uri`.

    Raises:
        UsageError: that is no URI of a file, or of one that has more than `most` bytes.
        OSError: it cannot be read, whatever exception the storage library raises for that.
    """
    storage = Storage(uri)
    folder = storage.parent()
    name = posixpath.basename(storage.root)
    try:
        if most is not None and (size := folder.entry(name).size) > most:
            raise UsageError(f"{uri} has {size:,} bytes; at most {most:,} are read")
        return folder.read(name)
    except FileNotFoundError as error:  # that of a bucket says nothing but the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(uri)) from error
    except (OSError, UsageError):
        raise
    except Exception as error:  # an unreachable endpoint and missing keys are no OSErrors of botocore
        raise OSError(why_unusable(error)) from error


@contextmanager
def on_failure(undo: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[None]:
    """Calls `undo` if the block does not come to its end, whatever ends it."""
    with ExitStack() as stack:
        stack.callback(undo, *args, **kwargs)
        yield
        stack.pop_all()


def overlap(source: Storage, target: Storage) -> bool:
    """Whether one root lies within the other, links followed, so that a run could read what it writes."""
    if source.protocol != target.protocol:
        return False
    a, b = source.real_root, target.real_root
    return a == b or a.startswith(b.rstrip("/") + "/") or b.startswith(a.rstrip("/") + "/")


def escapes(name: str, in_bucket: bool = False) -> bool:
    """Whether a relative name could lead out of the root that it is joined to: on any storage, or in a bucket."""
    return not name or (name.startswith("/") and not in_bucket) or ".." in name.split("/") or "\0" in name


def _abandon(remote: Any) -> None:
    remote.discard()
    remote.closed = True  # or its finaliser would complete the upload
